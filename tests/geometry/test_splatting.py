"""The z-buffer against a plain loop, and warped views against what geometry demands."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from gen3r.cameras.camera import Cameras
from gen3r.geometry.splatting import nearest_points, warp_views
from tests.poses import random_poses, seeds

SIZE, FOCAL = 24, 20.0


def _cameras(T: torch.Tensor) -> Cameras:
    K = torch.tensor([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1]])
    return Cameras(T, K.expand(len(T), 3, 3), SIZE, SIZE)


def _moved(x: float, y: float = 0.0, z: float = 0.0) -> torch.Tensor:
    """A camera at the world's origin, and one beside it."""
    T = torch.eye(4).repeat(2, 1, 1)
    T[1, :3, 3] = torch.tensor([x, y, z])
    return T


def _moved_picture(picture: torch.Tensor, depth: torch.Tensor, cameras: Cameras) -> torch.Tensor:
    """The first camera's picture as both see it."""
    return warp_views(picture[None], depth[None], [0], cameras)[0]


def _picture(seed: int) -> torch.Tensor:
    return torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


@given(seeds)
def test_the_same_camera_gives_the_picture_back(seed: int) -> None:
    T = random_poses(seed, 1).float().expand(3, 4, 4)
    picture = _picture(seed)
    depth = 0.1 + 10 * torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(seed + 1))
    views, known = warp_views(picture[None], depth[None], [1], _cameras(T))
    assert torch.equal(views, picture.expand(3, -1, -1, -1))
    assert known.all()


@given(seeds, st.integers(-9, 9), st.integers(-9, 9), st.floats(0.5, 20))
def test_a_plane_moves_by_its_disparity_and_its_edge_fills_the_hole(seed: int, dx: int, dy: int, z: float) -> None:
    picture = _picture(seed)
    cameras = _cameras(_moved(-dx * z / FOCAL, -dy * z / FOCAL))
    shifted = _moved_picture(picture, torch.full((SIZE, SIZE), z), cameras)[1]
    rows, columns = ((torch.arange(SIZE) - d).clamp(0, SIZE - 1) for d in (dy, dx))
    assert torch.equal(shifted, picture[:, rows][:, :, columns])


def test_what_is_nearer_hides_what_is_behind_and_moves_further() -> None:
    picture, depth = torch.zeros(3, SIZE, SIZE), torch.full((SIZE, SIZE), 10.0)
    picture[:, :, 4:8], depth[:, 4:8] = 1.0, 2.0
    shifted = _moved_picture(picture, depth, _cameras(_moved(-1.0)))[1]  # ten pixels there, two behind
    assert (shifted[:, :, 14:18] == 1).all()
    assert (shifted[:, :, 18:] == 0).all()


def test_a_surface_that_comes_nearer_has_no_cracks() -> None:
    picture, depth = torch.zeros(3, SIZE, SIZE), torch.full((SIZE, SIZE), 10.0)
    picture[:, :, 8:16], depth[:, 8:16] = 1.0, 2.0
    nearer = _moved_picture(picture, depth, _cameras(_moved(0, 0, 1.0)))[1]  # twice as wide now
    assert (nearer[:, :, 4:20] == 1).all()
    assert (nearer[:, :, :4] == 0).all()
    assert (nearer[:, :, 20:] == 0).all()


def test_where_nothing_is_in_view_the_mean_colour_is() -> None:
    picture = _picture(0)
    blind = _moved_picture(picture, torch.full((SIZE, SIZE), 0.5), _cameras(_moved(0, 0, 1.0)))[1]
    assert torch.equal(blind, picture.mean((1, 2))[:, None, None].expand_as(blind))


@given(st.integers(1, 9))
def test_what_comes_into_view_is_not_known(dx: int) -> None:
    plane = torch.full((1, SIZE, SIZE), 2.0)
    _, known = warp_views(_picture(0)[None], plane, [0], _cameras(_moved(dx * 2.0 / FOCAL)))
    assert known[0].all()
    assert known[1, :, : SIZE - dx].all()
    assert not known[1, :, SIZE - dx :].any()


def test_each_picture_fills_what_the_other_does_not_show() -> None:
    T = torch.eye(4).repeat(3, 1, 1)
    T[:, 0, 3] = torch.tensor([0.0, 0.4, 0.8])  # four pixels each
    wide = torch.rand(3, SIZE, SIZE + 8, generator=torch.Generator().manual_seed(0))
    shown = torch.stack([wide[..., :SIZE], wide[..., 8:]])
    views, known = warp_views(shown, torch.full((2, SIZE, SIZE), 2.0), [0, 2], _cameras(T))
    assert known.all()
    assert torch.equal(views, torch.stack([wide[..., k : k + SIZE] for k in (0, 4, 8)]))


def test_of_two_surfaces_the_nearer_one_is_seen_whoever_shows_it() -> None:
    shown, depth = torch.stack([_picture(0), _picture(1)]), torch.tensor([5.0, 2.0])[:, None, None]
    views, _ = warp_views(shown, depth.expand(2, SIZE, SIZE), [0, 1], _cameras(torch.eye(4).repeat(2, 1, 1)))
    assert torch.equal(views, shown[1].expand(2, -1, -1, -1))


@given(seeds, st.booleans())
def test_the_z_buffer_is_that_of_a_plain_loop(seed: int, squares: bool) -> None:
    g = torch.Generator().manual_seed(seed)
    frames, count, height, width = 2, 40, 6, 9
    pixel = torch.rand(frames, count, 2, generator=g) * 16 - 4
    pixel[0, 0] = torch.nan
    z = torch.randint(-1, 4, (frames, count), generator=g).float()  # with many ties
    size = torch.randint(1, 5, (frames, count), generator=g) if squares else None
    nearest, drawn = nearest_points(pixel, z, height, width, size)
    for f in range(frames):
        best: dict[tuple[int, int], int] = {}
        for n in range(count):
            side = int(size[f, n]) if size is not None else 1
            for dy in range(side):
                for dx in range(side):
                    x, y = float(pixel[f, n, 0]) + dx, float(pixel[f, n, 1]) + dy
                    if 0 <= x < width and 0 <= y < height and z[f, n] > 0:
                        place = int(y), int(x)
                        if place not in best or z[f, n] <= z[f, best[place]]:
                            best[place] = n
        assert {tuple(p) for p in drawn[f].nonzero().tolist()} == set(best)
        assert all(int(nearest[f][place]) == n for place, n in best.items())
