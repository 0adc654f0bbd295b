"""Camera motion against motions that are known in closed form, and videos as the mean of their frames beside it."""

import math

import pytest
import torch
from torch.nn import functional as F

from zoo import Item, build_model
from zoo.encoders.motion import MOTION, camera_motion

RIGHT, DOWN, GROWS, TURNS, LIGHTER, CUT, MOVES = range(MOTION)


def view(seed: int = 0, side: int = 128) -> torch.Tensor:
    """A smooth random image `(1, 3, side, side)` in 0..255 float, with edges everywhere."""
    rough = torch.randn(1, 3, 24, 24, generator=torch.Generator().manual_seed(seed))
    smooth = F.interpolate(rough, (side, side), mode="bicubic", align_corners=False)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min()) * 255


def clip(
    image: torch.Tensor, count: int = 6, *, right: float = 0, down: float = 0, turn: float = 0, grow: float = 0
) -> torch.Tensor:
    """uint8 `(count, 3, side, side)`: every frame moved on by shares of the side, radians clockwise and a share of its size."""
    frames = []
    for k in range(count):
        angle, size = turn * k, (1 + grow) ** k
        # affine_grid says where each place of the frame is taken from: the inverse of how contents move.
        c, s = math.cos(angle) / size, math.sin(angle) / size
        x, y = -2 * right * k, -2 * down * k
        grid = F.affine_grid(torch.tensor([[[c, s, x], [-s, c, y]]]), image.shape, align_corners=False)
        frames.append(F.grid_sample(image, grid, padding_mode="reflection", align_corners=False))
    return torch.cat(frames).round().clamp(0, 255).to(torch.uint8)


def measured(frames: torch.Tensor) -> torch.Tensor:
    return camera_motion(frames[None])[0]


@pytest.mark.parametrize(
    ("motion", "number", "wanted"),
    [
        ({"right": 0.02}, RIGHT, 0.02 / 0.03),
        ({"right": -0.02}, RIGHT, -0.02 / 0.03),
        ({"down": 0.03}, DOWN, 0.03 / 0.03),
        ({"turn": 0.03}, TURNS, 0.03 / 0.03),
        ({"turn": -0.02}, TURNS, -0.02 / 0.03),
        ({"grow": 0.02}, GROWS, 0.02 / 0.03),
        ({"grow": -0.02}, GROWS, -0.02 / 0.03),
    ],
)
def test_a_known_motion_is_what_is_measured(motion: dict[str, float], number: int, wanted: float) -> None:
    for seed in range(3):
        found = measured(clip(view(seed), **motion))
        assert found[number] == pytest.approx(math.tanh(wanted), abs=0.06)
        others = [k for k in (RIGHT, DOWN, GROWS, TURNS) if k != number]
        assert found[others].abs().max() < 0.12
        assert found[CUT] < 0.3
        assert found[MOVES] > 0.2


def test_a_mirror_turns_what_has_a_side_and_nothing_else() -> None:
    frames = clip(view(4), right=0.015, down=0.01, turn=0.02, grow=0.01)
    found, mirrored = measured(frames), measured(frames.flip(-1))
    turned = torch.tensor([-1.0, 1, 1, -1, 1, 1, 1])
    torch.testing.assert_close(mirrored, found * turned, atol=0.03, rtol=0)
    backwards = measured(frames.flip(0))
    assert (backwards[:4] * found[:4] < 0).all()


def test_light_a_cut_and_stillness() -> None:
    image = view(5)
    still = torch.cat([image] * 5).to(torch.uint8)
    assert measured(still).abs().max() < 1e-3
    fading = torch.cat([image * share for share in (1.0, 0.75, 0.5, 0.25, 0.0)]).to(torch.uint8)
    assert measured(fading)[LIGHTER] < -0.8
    assert measured(fading.flip(0))[LIGHTER] > 0.8
    cut = torch.cat([image] * 3 + [view(6)] * 3).to(torch.uint8)
    assert measured(cut)[CUT] > 0.95
    assert measured(cut)[[RIGHT, DOWN]].abs().max() < 0.5


def test_odd_videos_are_numbers_too() -> None:
    black = torch.zeros(4, 3, 32, 48, dtype=torch.uint8)
    assert torch.isfinite(measured(black)).all()
    assert measured(black).abs().max() < 1e-3
    assert measured(black[:1]).tolist() == [0.0] * MOTION
    assert torch.isfinite(measured(torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8))).all()


def test_what_else_is_in_the_batch_does_not_matter() -> None:
    clips = [clip(view(7), right=0.02), clip(view(8), turn=0.03)]
    together = camera_motion(torch.stack(clips))
    torch.testing.assert_close(together, torch.stack([measured(one) for one in clips]), atol=1e-5, rtol=0)


def test_a_video_is_the_mean_of_its_frames_beside_its_motion() -> None:
    model = build_model("mini-omni-test").eval()
    images, videos = model.towers[0], model.towers[3]
    videos.encoder.image.load_state_dict(images.encoder.state_dict())
    frames = clip(view(9, 64), right=0.02).permute(0, 2, 3, 1).numpy()
    with torch.no_grad():
        tokens = videos.encoder(videos.encoder.collate([videos.encoder.prepare_item(Item(video=frames))]))
        seen = images.encoder(
            images.encoder.collate([images.encoder.prepare_item(Item(image=frame)) for frame in frames])
        )
    assert tokens.states.shape == (1, 1, images.encoder.width + MOTION)
    torch.testing.assert_close(tokens.states[0, 0, :-MOTION], seen.states[:, 0].mean(0), atol=1e-5, rtol=0)
    short, many = frames[:1], torch.from_numpy(frames).repeat(5, 1, 1, 1).numpy()
    together = model.encode([Item(video=one) for one in (short, frames, many)])
    for one, vector in zip((short, frames, many), together, strict=True):
        torch.testing.assert_close(model.encode(Item(video=one)), vector, atol=1e-5, rtol=0)
    with torch.no_grad():
        videos.head.beside.weight.zero_()
    still = model.encode(Item(video=frames))
    torch.testing.assert_close(still, model.encode(Item(video=frames[::-1].copy())), atol=1e-5, rtol=0)  # without order
