"""The viser server of a viewer: on this machine alone, unless a person asks for more."""

import contextlib
import io
from typing import TYPE_CHECKING

from gen3r.errors import InputError

if TYPE_CHECKING:
    import viser

LOCAL = ("127.0.0.1", "localhost", "::1")


def start_server(host: str, port: int, label: str) -> "viser.ViserServer":
    """A server at the address, or at the next free port after it; it prints nothing and shares nothing.

    Raises:
        InputError: this machine has no such address.
    """
    import socket

    import viser

    try:
        family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
    except OSError as error:
        raise InputError(f"this machine has no address {host}; leave out --host, or give 0.0.0.0 for all") from error
    with contextlib.redirect_stdout(io.StringIO()):
        server = viser.ViserServer(host=host, port=port, label=label, verbose=False)
    server.request_share_url = lambda verbose=True: None  # no page may open a tunnel to the outside
    server.gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
    return server


def stop_server(server: "viser.ViserServer") -> None:
    """Stops a server; it prints nothing."""
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()


def address_lines(server: "viser.ViserServer", host: str) -> list[str]:
    """What to tell a person: the address to open, and who else can."""
    port = server.get_port()
    if host in LOCAL:
        return [
            f"open http://{host}:{port} in a browser; Ctrl-C ends",
            f"from another machine: ssh -L {port}:127.0.0.1:{port} THIS-MACHINE, then open the same address there",
        ]
    shown = _name_of_this_machine() if host in ("0.0.0.0", "::") else host
    return [
        f"open http://{shown}:{port} in a browser; Ctrl-C ends",
        f"warning: everyone who reaches {host}, port {port}, sees the scene and can use every button: there is no "
        "password and no encryption",
    ]


def _name_of_this_machine() -> str:
    import socket

    return socket.gethostname()
