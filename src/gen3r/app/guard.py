"""What viser leaves open: uploads without bounds, and pages of other sites that open its socket.

Both need names of viser that are not public; `tests/app/test_app.py` fails where a new version changes them.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import viser
from viser import _messages as messages

from gen3r.app.uploads import MAX_VIDEO_BYTES
from gen3r.viewer.server import LOCAL

MAX_UPLOADS = 4  # of one visitor at a time


def from_this_page(server: viser.ViserServer, client: viser.ClientHandle) -> bool:
    """Whether a visitor's socket was opened by this server's own page; closes it if not.

    A browser lets any site open a socket to this machine, and tells where the site is from.
    """
    connection = server._websock_server._live_connections.get(client.client_id)
    headers = connection.request.headers if connection is not None and connection.request is not None else None
    hosts, origins = ([], []) if headers is None else (headers.get_all("Host"), headers.get_all("Origin"))
    named = len(hosts) == 1 and (server.get_host() not in LOCAL or urlsplit(f"//{hosts[0]}").hostname in LOCAL)
    if named and all(urlsplit(origin).netloc == hosts[0] for origin in origins):
        return True
    if connection is not None:
        asyncio.run_coroutine_threadsafe(connection.close(1008, "other site"), server.get_event_loop())
    return False


def take_uploads(
    client: viser.ClientHandle,
    button: viser.GuiUploadButtonHandle,
    take: Callable[[bytes], None],
    refuse: Callable[[str], None],
    most: int = MAX_VIDEO_BYTES,
) -> None:
    """Hands on a visitor's uploads in their order, one after another.

    viser keeps the last one only, which a second file replaces before the first is read. An upload is dropped as soon
    as it is known to have more than `most` bytes; `refuse` says so.
    """
    uploads: dict[str, Any] = client.gui._current_file_upload_states
    coming: set[str] = set()
    order = ThreadPoolExecutor(1)

    def check(_: int, message: messages.FileTransferStartUpload | messages.FileTransferPart) -> None:
        name = message.transfer_uuid
        if isinstance(message, messages.FileTransferStartUpload) and message.source_component_uuid == button._impl.uuid:
            coming.add(name)
        if name not in coming:
            uploads.pop(name, None)
            return
        state = uploads.get(name)
        if state is None:  # it is complete
            coming.discard(name)
            order.submit(take, button.value.content)
        elif max(state["total_bytes"], state["transferred_bytes"], state["part_count"]) > most:
            drop(name, f"the file is too large; give one of at most {most >> 20} MB")
        elif len(coming) > MAX_UPLOADS:
            drop(name, "too many files at once")

    def drop(name: str, why: str) -> None:
        del uploads[name]
        coming.discard(name)
        refuse(why)

    for kind in (messages.FileTransferStartUpload, messages.FileTransferPart):
        client._websock_connection.register_handler(kind, check)
