"""Visitors of the page without a browser: they speak viser's protocol, well or badly."""

from collections.abc import Callable
from typing import Any

import msgspec
import viser
import zstandard
from viser import _messages as messages
from websockets.sync.client import connect

from .conftest import LONG

PART = 100_000  # bytes
CAMERA = messages.ViewerCameraMessage(
    wxyz=(1, 0, 0, 0), position=(0, 0, -1), fov=1, near=0.01, far=100, image_height=300, image_width=400,
    look_at=(0, 0, 1), up_direction=(0, -1, 0),
)  # fmt: skip


class Visitor:
    """One connection. controls: what the page has, by its identifier. told: the texts of notifications."""

    def __init__(self, server: viser.ViserServer, origin: str | None = None) -> None:
        self._socket = connect(
            f"ws://127.0.0.1:{server.get_port()}",
            subprotocols=[f"viser-v{viser.__version__}"],  # pyright: ignore[reportArgumentType]
            origin=origin,  # pyright: ignore[reportArgumentType]
            max_size=None,
            compression=None,
            open_timeout=LONG,
            ping_timeout=None,
        )
        self.controls: dict[str, dict[str, Any]] = {}
        self.told: list[str] = []
        self.send(CAMERA)

    def close(self) -> None:
        self._socket.close()

    def send(self, message: messages.Message) -> None:
        self.send_bytes(msgspec.msgpack.encode(message.as_serializable_dict([])))

    def send_bytes(self, content: bytes) -> None:
        self._socket.send(content)

    def until(self, true: Callable[[], Any]) -> None:
        """Reads what the server sends until something is so."""
        while not true():
            try:
                self._take(self._socket.recv(timeout=LONG))
            except TimeoutError as error:
                texts = [str(x)[:150] for x in self.controls.values()]
                raise AssertionError(f"the page says {texts}, and told {self.told}") from error

    def control(self, label: str) -> str:
        """The identifier of the control with this label, once the page has it."""

        def find() -> list[str]:
            return [i for i, x in self.controls.items() if label in (x.get("label"), x.get("_label"))]

        self.until(find)
        return find()[0]

    def set(self, label: str, value: object) -> None:
        self.send(messages.GuiUpdateMessage(self.control(label), {"value": value}))

    def click(self, label: str) -> None:
        self.set(label, True)

    def upload(self, content: bytes, name: str = "photo.png", size: int | None = None) -> None:
        """Sends a file. size: what is claimed."""
        button, transfer = self.control("Add a photo or a video"), f"{name}-{len(content)}"
        parts = [content[i : i + PART] for i in range(0, len(content), PART)]
        size = len(content) if size is None else size
        self.send(messages.FileTransferStartUpload(button, transfer, name, "image/png", len(parts), size))
        for i, part in enumerate(parts):
            self.send(messages.FileTransferPart(button, transfer, i, part))

    def reads(self, text: str) -> None:
        """Waits until the page has a text somewhere."""
        self.until(lambda: text in str(self.controls) or text in str(self.told))

    def _take(self, raw: str | bytes) -> None:
        assert isinstance(raw, bytes)
        size = int.from_bytes(raw[8:16], "little")
        inner = zstandard.ZstdDecompressor().decompress(raw[16 : 16 + size])
        for message in msgspec.msgpack.decode(inner)["messages"]:
            if message["type"] == "GuiUpdateMessage":
                self.controls.get(message["uuid"], {}).update(message["updates"])
            elif message["type"].startswith("Gui") and "props" in message:
                self.controls[message["uuid"]] = {**message["props"], "value": message.get("value")}
            elif message["type"] == "NotificationShowMessage" or "body" in message.get("props", {}):
                self.told.append(str(message))
