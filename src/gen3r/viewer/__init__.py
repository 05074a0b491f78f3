"""A scene in the browser, live: the parts of `gen3r view`, of which `gen3r app` is made too."""
