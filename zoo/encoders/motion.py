"""Camera motion: how the whole view moves, turns, grows and brightens from frame to frame, by least squares (Lucas and Kanade, 1981).

Nothing is learned: between two frames the affine motion and the change of light are found that explain the second by the first, from
coarse to fine (Baker and Matthews, 2004, the forwards-additive algorithm with gain and bias). A camera that pans to the left gives
the mirror image of one that pans to the right, so that few videos are enough to learn what the numbers are called.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 48
"""Pixels of the side of the grey square that motion is measured on."""
MOTION = 7
"""Numbers of a video's motion, see `camera_motion`."""
_LEVELS = (4, 2, 1)  # of the pyramid: the side is divided by these
_STEPS = 4
_FIRM = 1e-2  # keeps what a frame without edges says nothing about at 0
_SMOOTH = 1.5  # pixels
# Of a video in which one thing happens: per frame, as shares of the view, radians and shares of the light.
_USUAL = (0.03, 0.03, 0.03, 0.03, 0.5, 0.15, 0.05)


def camera_motion(frames: Tensor) -> Tensor:
    """Videos `(B, F, 3, H, W)` uint8 → `(B, 7)` in -1..1.

    Mean over the steps from frame to frame of: where the view's contents go to the right and down (shares of its side), by how much they
    grow and turn clockwise; then how much lighter the last frames are than the first, the largest share of a step that no such motion
    explains (a cut), and how much moves at all. A single frame moves nowhere.
    """
    if frames.shape[1] < 2:
        return frames.new_zeros(len(frames), MOTION, dtype=torch.float32)
    grey = _grey(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])  # (B, F, S, S)
    one, other = grey[:, :-1].flatten(0, 1), grey[:, 1:].flatten(0, 1)
    steps, missed = _steps(one, other)
    steps, missed = steps.unflatten(0, (len(frames), -1)), missed.unflatten(0, (len(frames), -1))
    sure = (1 - missed).clamp(min=0.05)[..., None]  # what a cut makes of a motion counts little
    right, down, a, b, c, d = ((steps * sure).sum(1) / sure.sum(1)).unbind(-1)
    light = grey.mean((2, 3))
    third = max(1, frames.shape[1] // 3)
    first, last = light[:, :third].mean(1), light[:, -third:].mean(1)
    lighter = (last - first) / torch.maximum(first, last).clamp(min=1e-3)
    moves = steps.abs().sum(-1).mean(1)
    found = torch.stack([right, down, (a + d) / 2, (c - b) / 2, lighter, missed.amax(1), moves], 1)
    return (found / found.new_tensor(_USUAL)).tanh()


def _grey(frames: Tensor) -> Tensor:
    """Frames `(N, 3, H, W)` uint8 as smooth grey squares `(N, SIDE, SIDE)` in 0..1."""
    grey = frames.float().mean(1, keepdim=True) / 255
    grey = F.interpolate(grey, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
    return _blurred(grey)[:, 0]


def _blurred(images: Tensor) -> Tensor:
    """Images `(N, 1, H, W)`, with a Gaussian over them."""
    reach = torch.arange(-4, 5, device=images.device, dtype=images.dtype)
    kernel = (-0.5 * (reach / _SMOOTH).square()).exp()
    kernel = kernel / kernel.sum()
    images = F.conv2d(F.pad(images, (4, 4, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    return F.conv2d(F.pad(images, (0, 0, 4, 4), mode="replicate"), kernel.view(1, 1, -1, 1))


def _steps(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Motion from images `(N, S, S)` to others: `(N, 6)`, shares of the side right and down and the affine matrix less the identity
    (row by row); and the share of their difference `(N,)` in 0..1 that it does not explain.
    """
    count = len(one)
    motion = one.new_zeros(count, 6)
    eye = torch.tensor([[1.0, 0, 0], [0, 1, 0]], device=one.device)
    # From coarse to fine: a linear model finds shifts of about a pixel, and a pixel of the
    # coarse image is four of the fine.
    for level in _LEVELS:
        small, large = (F.avg_pool2d(image[:, None], level) if level > 1 else image[:, None] for image in (one, other))
        side = small.shape[-1]
        grid = F.affine_grid(eye.expand(1, 2, 3), (1, 1, side, side), align_corners=False)[0].flatten(
            0, 1
        )  # (S², 2), -1..1
        x, y = grid.unbind(-1)
        for _ in range(_STEPS):
            warped, inside = _warped(large, motion, eye)
            along, across = _gradients(warped)
            # Of a sample's place: right, down, and the matrix's rows; then gain and bias.
            parts = [
                along,
                across,
                along * x,
                along * y,
                across * x,
                across * y,
                warped.flatten(1),
                torch.ones_like(along),
            ]
            # (N, S², 8): one row per pixel, one column per number that is sought.
            design = torch.stack(parts, -1) * inside[..., None]
            wanted = (small.flatten(1) - warped.flatten(1)) * inside
            normal = design.transpose(1, 2) @ design
            firm = _FIRM * torch.eye(8, device=one.device) * side
            firm[6:, 6:] *= 0.1
            # Least squares with a ridge: (AᵀA + λI) x = Aᵀb. Without it a frame of one colour has no solution.
            solved = torch.linalg.solve(normal + firm, design.transpose(1, 2) @ wanted[..., None])[..., 0]
            # Forwards additive: the step adds to the motion. Gain and bias are found anew at each step.
            motion = (motion + solved[:, :6]).clamp(-1.0, 1.0)
    left = (wanted[..., None] - design @ solved[..., None])[..., 0].square().sum(1)
    mean = (small.flatten(1) * inside).sum(1, keepdim=True) / inside.sum(1, keepdim=True).clamp(min=1)
    whole = ((small.flatten(1) - mean) * inside).square().sum(1)
    seen = inside.mean(1)
    missed = (left / (whole + 1e-3 * side * side * seen + 1e-6)).clamp(0, 1)
    # A sample that lies to the right in the other image has moved there: shares of the side are half of -1..1.
    return torch.cat([motion[:, :2] / 2, motion[:, 2:]], 1), missed


def _warped(images: Tensor, motion: Tensor, eye: Tensor) -> tuple[Tensor, Tensor]:
    """Images `(N, 1, S, S)` read where the motion takes each place, and which places lie inside `(N, S²)`."""
    right, down, a, b, c, d = motion.unbind(-1)
    matrix = eye + torch.stack([torch.stack([a, b, right], -1), torch.stack([c, d, down], -1)], 1)
    grid = F.affine_grid(matrix, images.shape, align_corners=False)
    inside = (grid.abs() <= 1).all(-1).flatten(1).to(images.dtype)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False), inside


def _gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences of images `(N, 1, S, S)` along x and y, for places in -1..1: `(N, S²)` each."""
    side = images.shape[-1]
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    along = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) * side / 4
    across = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) * side / 4
    return along.flatten(1), across.flatten(1)
