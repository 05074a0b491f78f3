"""The server of `gen3r app`: a page for each visitor, over one store and one runner."""

import threading
from contextlib import suppress

import viser

from gen3r.app.guard import from_this_page
from gen3r.app.page import Page, told_to
from gen3r.app.runner import Runner
from gen3r.app.store import Store
from gen3r.errors import InputError


class App:
    """Pages that show the same queue."""

    def __init__(self, server: viser.ViserServer, store: Store, runner: Runner) -> None:
        self._server, self._store, self._runner = server, store, runner
        self.pages: dict[int, Page] = {}
        self._closing = False
        server.on_client_connect(self._connect)
        server.on_client_disconnect(lambda client: self.pages.pop(client.client_id, None) and None)
        self._thread = threading.Thread(target=self._refresh, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops refreshing pages."""
        self._closing = True
        self._store.notify()
        self._thread.join()

    def _connect(self, client: viser.ClientHandle) -> None:
        if from_this_page(self._server, client):
            with told_to(client):
                self.pages[client.client_id] = Page(client, self._store, self._runner)

    def _refresh(self) -> None:
        seen = -1
        while not self._closing:
            self._store.wait(lambda: self._closing or self._store.version != seen)  # noqa: B023
            seen = self._store.version
            for page in list(self.pages.values()):
                with suppress(InputError):  # a job that was deleted while it was read
                    page.refresh()
