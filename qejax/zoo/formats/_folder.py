"""Folders of networks in files of one kind: safetensors, npz, msgpack, orbax, torch.

Every file is a network; for orbax, every checkpoint. Its name is its path below the
folder without the suffix. Beside them may lie

- `labels.csv`, see `_table`;
- `network.json`, the configuration of the networks in its folder and below
  (`nets.NetConfig.to_dict()`). The nearest counts, and before it a field
  `qejax_network` of a file. Without any, dense layers and convolutions are told from
  names and shapes, and what these do not tell is asked for.

Networks of one architecture are a bucket.
"""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qejax import nets
from qejax.nets import NetConfig, Network
from qejax.zoo._listing import Found, Listing, Problem, Weights, vectors_of
from qejax.zoo.files import FILES, find_files
from qejax.zoo.formats._checkpoints import ALL, asked
from qejax.zoo.formats._infer import STATED, network_of, stated_network, to_vector
from qejax.zoo.formats._part import choices, weights_of
from qejax.zoo.formats._runs import runs_of
from qejax.zoo.formats._table import Known, codes_of, known_of

KINDS: dict[str, tuple[str, ...]] = {
    "safetensors": ("safetensors", "safetensors_shards"),
    "npz": ("npz",),
    "msgpack": ("msgpack",),
    "orbax": ("orbax",),
    "torch": ("torch",),
}
"""Kinds of files by the name of the format."""


MAX_LOOKED_AT = 10_000
"""Files of a folder without a network, to tell what is there."""


class _File(NamedTuple):
    path: Path
    kind: str
    name: str
    run: str
    step: int


def list_folder(
    kind: str,
    directory: str | Path,
    network: str | Path | None = None,
    activation: str | None = None,
    checkpoint: str | int | None = None,
    split_seed: int = 0,
    cut_off: float = 0.0,
    protocol: str | None = None,
    part: str | None = None,
) -> Found:
    """Lists the networks in a folder of files of one kind.

    All files are opened once to see which network they hold, and again when weights are
    asked for.

    Args:
        kind: of `KINDS`.
        directory: the folder.
        network: JSON file of the configuration of all networks, where the folder does
            not say.
        activation: of networks whose configuration is nowhere.
        checkpoint: number of a checkpoint, see `_runs`, and for orbax of its folder
            (`RUN/NUMBER`); "all" takes every one. `None` takes the last of every run
            by orbax, and all other files.
        split_seed: of the protocol "clean".
        cut_off: networks below this `test_accuracy` are left out before the split.
        protocol: "clean" splits runs of the whole folder at random; "stored" is what
            the table says, and the default where it says so.
        part: dotted name of the network in files that hold several; by default what
            is left of a file without optimizers, random numbers and counts.

    Returns:
        Buckets `networks`, or `KIND_DIGEST` by configuration if there are several.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the table cannot be read, or no file can be used; says why the
            first cannot.
    """
    directory = Path(directory)
    files = _files(kind, directory, checkpoint)
    given = None if network is None else _given(Path(network))
    known, problems = known_of(
        directory, [file.name for file in files], [file.run for file in files]
    )
    known = _accurate(directory, known, cut_off)
    configs: dict[str, tuple[Network, list[int]]] = {}
    for at, place in enumerate(known.kept):
        file = files[place]
        try:
            found = _network(directory, file, given, activation, part)
        except ValueError as error:
            problems.append(Problem(file.name, str(error)))
            continue
        key = json.dumps(found.config.to_dict(), sort_keys=True)
        configs.setdefault(key, (found, []))[1].append(at)
    if not configs:
        raise ValueError(f"{problems[0].why} There is no other network.")
    protocol, codes = codes_of(directory, known, protocol, split_seed)
    listings = {
        (_bucket(key) if len(configs) > 1 else "networks"): _listing(
            kind, directory, files, known, found, rows, codes, part
        )
        for key, (found, rows) in sorted(configs.items())
    }
    advice = "remove the files to go on without them"
    return Found(listings, tuple(problems), protocol, advice)


def _files(kind: str, directory: Path, checkpoint: str | int | None) -> list[_File]:
    """The files of a kind by name; of a run the checkpoints that are asked for."""
    found: list[_File] = []
    if not directory.is_dir():
        what = "a file: give the folder that it is in" if directory.exists() else "none"
        raise FileNotFoundError(
            f"{directory}: expected a folder of networks, found {what}. Check the path."
        )
    paths = {p: own for p, own in find_files(directory).items() if own in KINDS[kind]}
    names = _names(paths, directory)
    often = Counter(names)
    runs = runs_of(names, directory.name)
    for (path, own), name, (run, step) in zip(paths.items(), names, runs, strict=True):
        parts = name.split("/")
        # A numbered folder, with perhaps one item in it, is a checkpoint of a run.
        numbers = [at for at, p in enumerate(parts) if p.isdecimal() and len(p) < 19]
        if numbers and own == "orbax":
            run = "/".join(parts[: numbers[-1]]) or directory.name
            step = int(parts[numbers[-1]])
        if often[name] > 1:  # with another suffix
            name = path.relative_to(directory).as_posix()
        found.append(_File(path, own, name, run, step))
    if not found:
        ends = [end for own in KINDS[kind] for end in FILES[own].suffixes]
        raise FileNotFoundError(
            f"{directory}: expected networks in files of kind {kind!r}"
            f"{f' ({chr(32).join(ends)})' if ends else ''}, {found_in(directory)}."
        )
    wanted = asked("a folder", checkpoint)
    if wanted is None and kind != "orbax":
        # A name may say `step` of what is no checkpoint: it leaves nothing out.
        wanted = ALL
    if wanted == ALL:
        return found
    last: dict[str, int] = {}
    for file in found:
        last[file.run] = max(last.get(file.run, -1), file.step)
    kept = [
        file
        for file in found
        if file.step == (last[file.run] if wanted is None else wanted)
        or last[file.run] < 0
    ]
    if not kept:
        raise ValueError(
            f"{directory}: expected checkpoints {checkpoint}, got "
            f"{sorted({file.step for file in found})[:8]}."
        )
    return kept


def found_in(directory: Path) -> str:
    """Returns what is in a folder, in words: ends of names, and links."""
    ends: dict[str, int] = {}
    links = 0
    for path in itertools.islice(directory.rglob("*"), MAX_LOOKED_AT):
        if path.is_symlink():
            links += 1
        elif path.is_file():
            end = path.suffix or path.name
            ends[end] = ends.get(end, 0) + 1
    often = sorted(ends, key=lambda end: -ends[end])[:4]
    told = ", ".join(f"{ends[end]} x {end[:40]}" for end in often)
    linked = f", and {links} links, which are not followed" if links else ""
    return f"found {told or 'none'}{linked}"


def _names(paths: Mapping[Path, str], directory: Path) -> list[str]:
    """Paths without their suffix; of a shard index, of its folder."""
    found = []
    for path, kind in paths.items():
        name = path.relative_to(directory).as_posix()
        if kind == "safetensors_shards":
            name = path.relative_to(directory).parent.as_posix()
        else:
            ends = [e for e in FILES[kind].suffixes if name.lower().endswith(e)]
            name = name[: len(name) - max(map(len, ends), default=0)]
        found.append(directory.name if name == "." else name)
    return found


def _accurate(directory: Path, known: Known, cut_off: float) -> Known:
    if not cut_off:
        return known
    if "test_accuracy" not in known.labels:
        raise ValueError(
            f"{directory}: cut_off needs a table labels.csv with a column "
            f"'test_accuracy', got labels {list(known.labels)}."
        )
    good = np.flatnonzero(known.labels["test_accuracy"] >= cut_off)
    return Known(
        [known.kept[at] for at in good],
        known.runs[good],
        None if known.split is None else known.split[good],
        {name: x[good] for name, x in known.labels.items()},
        {name: x[good] for name, x in known.hyper.items()},
    )


def _given(path: Path) -> NetConfig:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: expected the configuration of a network in JSON, got {error}."
        ) from error
    found = stated_network(path, {"qejax_network": text})
    assert found is not None
    return found


def _network(
    directory: Path,
    file: _File,
    given: NetConfig | None,
    activation: str | None,
    part: str | None,
) -> Network:
    """Which network a file holds, whose weights have been seen to fit it."""
    stored, config = FILES[file.kind].read(file.path), given
    tensors = weights_of(str(file.path), stored.tensors, part)
    for folder in file.path.relative_to(directory).parents:
        config = config or stated_network(directory / folder / STATED, stored.fields)
    ordered = FILES[file.kind].ordered
    options = {} if activation is None else {"activation": activation}
    try:
        found = network_of(
            tensors,
            network=None if config is None else nets.build(config.to_dict()),
            ordered=ordered,
            where=str(file.path),
            **options,
        )
        to_vector(found, tensors, ordered=ordered, where=str(file.path))
    except ValueError as error:
        several = choices(tensors)
        if not several:
            raise
        raise ValueError(
            f"{error} If a part of {several[:8]} is the network, choose it with --part "
            f"NAME."
        ) from error
    return found


def _bucket(key: str) -> str:
    return f"{json.loads(key)['kind']}_{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def _listing(
    kind: str,
    directory: Path,
    files: list[_File],
    known: Known,
    network: Network,
    rows: list[int],
    codes: np.ndarray,
    part: str | None,
) -> Listing:
    own = [files[known.kept[at]] for at in rows]
    by_path = {file.path: file for file in own}

    def vector(path: Path) -> np.ndarray:
        file = by_path[path]
        row, where = FILES[file.kind], str(path)
        tensors = weights_of(where, row.read(path).tensors, part)
        return to_vector(network, tensors, ordered=row.ordered, where=where)

    def read(asked: np.ndarray) -> Weights:
        paths = [own[at].path for at in asked]
        return vectors_of(paths, network.spec.num_parameters, vector)

    steps: Mapping[str, np.ndarray] = {}
    if any(file.step >= 0 for file in own):
        steps = {"step": np.array([file.step for file in own], np.int64)}
    return Listing(
        network=network,
        ids=np.array([file.name for file in own], str),
        runs=known.runs[rows],
        labels={name: x[rows] for name, x in known.labels.items()},
        hyper=dict(steps) | {name: x[rows] for name, x in known.hyper.items()},
        split=codes[rows],
        source=f"{kind}:{directory.name}",
        read=read,
    )
