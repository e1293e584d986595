"""Short sounds made from a seed: ten classes of tones and chirps.

A class is a way to sound, of `SOUNDS`, and a way to fade, of `ENVELOPES`. Within a
class pitch, phase, loudness and fading are drawn, so that it is the shape of a sound
that tells its class, and not its pitch.
"""

from itertools import product

import numpy as np

SOUNDS: dict[str, tuple[tuple[float, ...], float]] = {
    "pure": ((1.0,), 0.0),
    "odd": ((1.0, 0.0, 1 / 3, 0.0, 1 / 5), 0.0),
    "full": ((1.0, 1 / 2, 1 / 3, 1 / 4), 0.0),
    "rising": ((1.0,), 1.0),
    "falling": ((1.0,), -1.0),
}
"""Loudness of the harmonics by name, and the sense in which the pitch moves."""

ENVELOPES = ("pluck", "swell")
"""Loud at the start and fading, or loud in the middle."""

CLASSES = tuple(f"{sound} {fading}" for sound, fading in product(SOUNDS, ENVELOPES))
"""Names of the labels."""

CYCLES = (3.0, 8.0)
"""Range of the pitch: cycles of the lowest harmonic in the whole sound."""


def sounds(count: int, points: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns sounds and their classes, in a random order.

    Args:
        count: of sounds; classes have equally many, up to one.
        points: at which a sound is measured.
        seed: decides everything; the sounds of a smaller count are others.

    Returns:
        `[count, points, 1]` float32 in [0, 1], silence is 0.5; `[count]` int32, which
        are indices into `CLASSES`.

    Example:
        >>> values, labels = sounds(20, 64, seed=0)
        >>> values.shape, sorted(set(labels.tolist())) == list(range(10))
        ((20, 64, 1), True)
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % len(CLASSES)).astype(np.int32)
    time = np.linspace(0, 1, points)
    values = np.stack([_sound(CLASSES[label], time, rng) for label in labels])
    return values[:, :, None].astype(np.float32), labels


def _sound(name: str, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns one sound `[points]` in [0, 1] of a class."""
    sound, fading = name.split()
    harmonics, sense = SOUNDS[sound]
    pitch = np.exp(rng.uniform(*np.log(CYCLES)))
    start, loudness = rng.uniform(0, 1), rng.uniform(0.6, 1)
    # From a pitch to twice that, or back.
    moved = time if sense >= 0 else 1 - time
    cycles = start + pitch * (moved + abs(sense) * moved**2 / 2)
    wave = sum(
        size * np.sin(2 * np.pi * n * cycles)
        for n, size in enumerate(harmonics, start=1)
    )
    if fading == "pluck":
        envelope = np.exp(-rng.uniform(2, 5) * time)
    else:
        middle, width = rng.uniform(0.35, 0.65), rng.uniform(0.12, 0.25)
        envelope = np.exp(-(((time - middle) / width) ** 2) / 2)
    return 0.5 + 0.5 * loudness * envelope * wave / sum(harmonics)
