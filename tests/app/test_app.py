"""The page as visitors use and abuse it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import viser
from websockets.exceptions import ConnectionClosed

from gen3r.app import guard
from gen3r.app.runner import Runner
from gen3r.app.server import App
from gen3r.app.store import RESULT, Store
from gen3r.scene import Scene
from gen3r.viewer.server import start_server, stop_server

from .conftest import photo_bytes
from .visitors import Visitor

few = pytest.mark.usefixtures("few_files")


@pytest.fixture
def server(store: Store, runner: Runner) -> Iterator[viser.ViserServer]:
    """The app, on a port that is free."""
    server = start_server("127.0.0.1", 0, "Gen3R")
    app = App(server, store, runner)
    runner.start()
    yield server
    app.close()
    stop_server(server)


@few
def test_a_photo_becomes_a_scene(server: viser.ViserServer, store: Store) -> None:
    visitor, other = Visitor(server), Visitor(server)
    visitor.upload(photo_bytes(), name="../../../etc/passwd\0.png")
    visitor.set("Camera", "dolly_in")
    visitor.reads("5 cameras; this is what is known")
    visitor.set("Frame size", "the model's own")
    visitor.click("Make the scene")
    visitor.reads("This scene is done")
    other.reads("This scene is done")  # everybody sees the queue
    [name] = store.states()
    assert sorted(p.name for p in store.path(name).iterdir()) == [
        "input-0.png",
        "job.json",
        "picture.png",
        RESULT,
        "state.json",
    ]
    assert store.job(name).to_json()["camera"] == "dolly_in"
    visitor.reads("Drawn as")  # it is shown to the one who asked for it
    other.click("Again with these settings")
    other.reads("The form is filled")
    other.click("Make the scene")
    other.until(lambda: len(store.states()) == 2 and {s.phase for s in store.states().values()} == {"done"})
    first, second = (Scene.load(store.path(n) / RESULT / "scene.safetensors") for n in store.states())
    assert torch.equal(first.frames, second.frames)


@few
def test_a_drawn_path_is_the_scenes_path(server: viser.ViserServer, store: Store) -> None:
    visitor = Visitor(server)
    visitor.upload(photo_bytes())
    visitor.set("Camera", "drawn by hand")
    visitor.reads("1 view")
    visitor.click("Make the scene")
    visitor.reads("the path is not drawn yet")
    [client] = server.get_clients().values()
    seen_from = client.camera.position
    visitor.click("Add this view")
    visitor.reads("2 views")
    visitor.click("Make the scene")
    visitor.reads("This scene is done")
    [name] = store.states()
    cameras = Scene.load(store.path(name) / RESULT / "scene.safetensors").cameras
    torch.testing.assert_close(cameras.T_world_camera[0], torch.eye(4))
    torch.testing.assert_close(cameras.centres[-1], torch.from_numpy(seen_from).float())


def test_twenty_visitors_and_a_storm(server: viser.ViserServer, store: Store) -> None:
    """All ask at once, then all cancel and delete everything at once."""

    def ask(number: int) -> Visitor:
        visitor = Visitor(server)
        visitor.set("Words", f"room {number}")
        visitor.set("Steps", 200)
        visitor.click("Make the scene")
        visitor.until(lambda: "In the queue" in str(visitor.told) or "are waiting" in str(visitor.told))
        return visitor

    def cancel(visitor: Visitor) -> None:
        for _ in range(3):
            visitor.click("Cancel")
            visitor.click("Delete")
            visitor.click("Look at it")

    with ThreadPoolExecutor(20) as pool:
        visitors = list(pool.map(ask, range(20)))
        assert len(store.states()) == 20
        list(pool.map(cancel, visitors))
    for name in store.states():
        store.cancel(name)
    assert store.wait(lambda: {s.phase for s in store.states().values()} == {"cancelled"}, 300)
    assert len(list((store.folder / "jobs").iterdir())) == 20
    for visitor in visitors:
        visitor.close()


@few
def test_nonsense_breaks_nothing(server: viser.ViserServer, store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    visitor = Visitor(server)
    for label in ("Camera", "Speed", "Frame size", "Scene", "Words", "Frames", "Seed", "Model's size", "Extent"):
        for value in ("/etc/passwd", "../..", -1, 10**12, 1.5, [1], {"a": 1}, "\0", "x" * 10_000):
            visitor.set(label, value)
        visitor.click("Make the scene")
    for content in (b"no image", b"", photo_bytes()[:200]):
        visitor.upload(content)
    for text in ("neither a photo nor a video", "the file is empty", "damaged"):
        visitor.reads(text)
    visitor.send_bytes(b"\xc1garbage")
    good = Visitor(server)
    good.set("Words", "a room")
    good.click("Make the scene")
    good.reads("This scene is done")
    assert {p.name for p in store.folder.iterdir()} <= {"jobs", "previews", "server.lock", "worker.lock"}
    capfd.readouterr()  # viser tells of what it could not read


def test_uploads_are_bounded_while_they_come(server: viser.ViserServer, monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = Visitor(server)
    visitor.upload(b"x" * 10, size=guard.MAX_VIDEO_BYTES + 1)
    visitor.reads("the file is too large")


def test_other_sites_get_nothing(server: viser.ViserServer) -> None:
    stranger = Visitor(server, origin="http://evil.example")
    with pytest.raises(ConnectionClosed):
        stranger.until(lambda: False)
    assert stranger.controls == {}
    own = Visitor(server, origin=f"http://127.0.0.1:{server.get_port()}")
    own.control("Make the scene")
