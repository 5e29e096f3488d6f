"""From command-line overrides to plain data, with the provenance of every value.

The only module that knows Hydra and OmegaConf.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, OverrideType, RangeSweep
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .canonical import Document, sha256_file
from .errors import ConfigError, Problem
from .options import GROUPS, find_options, packaged_conf, shadowed

PATH_KEYS = (
    "data_dir", "results_dir", "benchmark.trace.path", "benchmark.dataset.path",
    "benchmark.query.path", "cluster.hostfile", "lockfile", "system.file",
)  # fmt: skip


def _product(*factors: float) -> float:
    return math.prod(factors)


def _largest(*values: float) -> float:
    return max(values)


# The only resolvers: a size may follow from other values. They read nothing of the machine.
OmegaConf.register_new_resolver("mlps.mul", _product, replace=True)
OmegaConf.register_new_resolver("mlps.max", _largest, replace=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value comes from. `default` is what it would be without the override.

    `found` are hosts that a hostfile or a scheduler named.
    """

    kind: Literal["packaged", "user", "override", "found"]
    where: str
    default: Any = None

    def as_document(self) -> Document:
        entry: Document = {"from": self.kind, "where": self.where}
        return entry | ({"default": self.default} if self.kind == "override" else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """A composed job before it is checked: plain values, their origins, the chosen files."""

    values: Document
    origins: dict[str, Origin]
    choices: dict[str, Document]
    overrides: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


def compose(overrides: Sequence[str], *, conf_dirs: Sequence[Path], cwd: Path) -> Composition:
    """Compose a job from packaged files, a user's directories and overrides.

    Relative paths of PATH_KEYS are taken from cwd. Raises ConfigError where nothing can be
    composed; everything that can be reported together with schema errors is in `problems`.
    """
    parsed = parse_overrides(overrides, multirun=False)
    with _hydra(conf_dirs) as loader:
        cfg, files = _load(loader, [_hydra_form(item) for item in parsed])
    problems: list[Problem] = []
    values = _plain(cfg, "", problems)
    defaults = flatten(_plain(_merged(files), "", []))
    if values.get("benchmark") is None:
        raise _no_benchmark(conf_dirs)
    origins = _origins(values, files, parsed, defaults)
    for key in (*PATH_KEYS, *_foreign_path_keys(values)):
        _make_absolute(values, key, cwd)
    return Composition(
        values=values,
        origins=origins,
        choices={name: file.as_document() for name, file in _choices(files)},
        overrides=tuple(_as_typed(item) for item in parsed),
        problems=tuple(replace(item, where=_where(item.key, origins)) for item in problems),
        notes=tuple(
            f"{path} has no effect: mlps has a packaged option of that name, which a user's file "
            "cannot replace; rename it"
            for path in shadowed(conf_dirs)
        ),
    )


def _foreign_path_keys(values: Document) -> Iterator[str]:
    """Keys that the benchmark of a foreign program calls paths; it is not yet checked."""
    benchmark = values["benchmark"]
    needs = benchmark.get("needs") if isinstance(benchmark, dict) else None
    keys = needs.get("path_keys") if isinstance(needs, dict) else None
    yield from (f"benchmark.{key}" for key in (keys if isinstance(keys, list) else ()))


def _make_absolute(values: Document, key: str, cwd: Path) -> None:
    *above, name = key.split(".")
    for part in above:
        values = values.get(part) or {}
        if not isinstance(values, dict):
            return
    if isinstance(values.get(name), str):
        values[name] = str((cwd / Path(values[name]).expanduser()).absolute())


def parse_overrides(overrides: Sequence[str], *, multirun: bool) -> list[Override]:
    """Read overrides by Hydra's grammar.

    Raises ConfigError for one that cannot be read, for two of one key, and for a list of values
    outside a sweep.
    """
    parsed: list[Override] = []
    for text in overrides:
        try:
            parsed += OverridesParser.create().parse_overrides([text])
        except OverrideParseException as error:
            lines = [line.strip(" ^") for line in str(error).splitlines() if "https://" not in line]
            detail = next(line for line in reversed(lines) if line)
            raise ConfigError(
                f"override {text!r} cannot be read: {detail}",
                hint="the form is key=value; quote a value with special characters: 'key=\"a,b\"'",
            ) from error
    problems = [*_repeated(parsed), *_nameless(parsed), *([] if multirun else _sweeps(parsed))]
    if problems:
        raise ConfigError.of(problems)
    return parsed


def sweep_form(overrides: Sequence[str]) -> list[str]:
    """The same overrides in a form that lets the schema, not Hydra, judge an unknown key."""
    return [_hydra_form(item) for item in parse_overrides(overrides, multirun=True)]


def flatten(values: Document, prefix: str = "") -> Document:
    """Dotted key -> value for every leaf; a list and an empty mapping are leaves."""
    leaves: Document = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            leaves |= flatten(value, f"{path}.")
        else:
            leaves[path] = value
    return leaves


# ---------------------------------------------------------------- overrides


def _repeated(parsed: Sequence[Override]) -> list[Problem]:
    first: dict[str, Override] = {}
    problems = []
    for item in parsed:
        key = item.key_or_group
        if key in first:
            earlier = _as_typed(first[key])
            text = f"set twice: {earlier} and {_as_typed(item)}"
            problems.append(Problem(key=key, text=text, where="command line", hint="keep one"))
        first[key] = item
    return problems


def _sweeps(parsed: Sequence[Override]) -> list[Problem]:
    return [
        Problem(
            key=item.key_or_group,
            text=f"{_as_typed(item)} has several values, but this is not a sweep",
            where="command line",
            hint=f"mlps -m {_as_typed(item)} runs one job per value; a list is written "
            f"{item.key_or_group}=[a,b]",
        )
        for item in parsed
        if item.is_sweep_override()
    ]


def _nameless(parsed: Sequence[Override]) -> Iterator[Problem]:
    """Options that are no names, which Hydra takes for a bug of its caller."""
    for item in parsed:
        if item.key_or_group not in GROUPS or item.type is not OverrideType.CHANGE:
            continue
        value = item.value()
        options = value.list if isinstance(value, ChoiceSweep) else [value]
        if any(isinstance(each, bool | int | float | RangeSweep | None) for each in options):
            yield Problem(
                key=item.key_or_group,
                text="expected the name of an option, got a number, a truth value or null",
                where=f"command line: {_as_typed(item)}",
                hint="mlps --help lists them with what they are for",
            )


def _is_group(item: Override) -> bool:
    return item.key_or_group in GROUPS or "/" in item.key_or_group or item.package is not None


def _as_typed(item: Override) -> str:
    line = item.input_line or ""
    return line.removeprefix("++") if not _is_group(item) else line


def _hydra_form(item: Override) -> str:
    # Forcing the key keeps Hydra from refusing an unknown one, so that the schema reports it
    # together with every other problem and names the nearest known key.
    line = item.input_line or ""
    own = item.type is OverrideType.CHANGE and not _is_group(item)
    return f"++{line}" if own and not item.key_or_group.startswith("hydra.") else line


# ---------------------------------------------------------------- Hydra


class _UserDirectories(SearchPathPlugin):
    """Appends a user's directories, so that they add options and never shadow packaged ones."""

    directories: tuple[Path, ...] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for directory in self.directories:
            search_path.append(provider="user", path=f"file://{directory}")


def register_user_dirs(conf_dirs: Sequence[Path]) -> None:
    """Let every later composition in this process, also Hydra's own, see these directories."""
    _UserDirectories.directories = tuple(conf_dirs)
    Plugins.instance().register(_UserDirectories)


class _ReadOnce(ConfigRepository):
    """Hydra's files, each read once for a composition; by itself Hydra reads them for each step."""

    def __init__(self, search_path: ConfigSearchPath) -> None:
        super().__init__(search_path)
        self._found: dict[str, ConfigResult | None] = {}

    def load_config(self, config_path: str) -> ConfigResult | None:
        if config_path not in self._found:
            self._found[config_path] = super().load_config(config_path)
        return self._found[config_path]

    def __deepcopy__(self, _: object) -> _ReadOnce:
        return self


@contextmanager
def _hydra(conf_dirs: Sequence[Path]) -> Iterator[ConfigLoaderImpl]:
    register_user_dirs(conf_dirs)
    outer = GlobalHydra.instance().hydra  # a sweep's own Hydra, put back for its next job
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("mlps.conf", version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            assert isinstance(loader, ConfigLoaderImpl)
            loader.repository = _ReadOnce(loader.config_search_path)
            yield loader
    except MissingConfigException as error:
        raise _unknown_option(error, conf_dirs) from error
    except yaml.MarkedYAMLError as error:
        raise _broken_yaml(error) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"a configuration file is not YAML: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"a configuration file is not UTF-8: {error}") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_joined(error)) from error
    finally:
        GlobalHydra.instance().clear()
        if outer is not None:
            GlobalHydra.instance().initialize(outer)


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """One file of the composition: where it sits in the job and what it sets."""

    group: str
    option: str
    path: Path
    packaged: bool
    content: Document

    def as_document(self) -> Document:
        digest = sha256_file(self.path)
        return {"option": self.option, "packaged": self.packaged, "sha256": digest}

    @property
    def label(self) -> str:
        group = f"{self.group}/" if self.group else ""
        return f"conf/{group}{self.option}.yaml" if self.packaged else str(self.path)


def _load(loader: ConfigLoaderImpl, overrides: Sequence[str]) -> tuple[DictConfig, list[_File]]:
    defaults = loader.compute_defaults_list("config", list(overrides), RunMode.RUN).defaults
    sources = [item for item in loader.get_sources() if item.scheme() in ("pkg", "file")]
    files = []
    for default in defaults:
        name = default.config_path
        if name is None or name.startswith("hydra/"):
            continue
        source = next(item for item in sources if item.is_config(name))
        packaged = source.scheme() == "pkg"
        root = packaged_conf() if packaged else Path(source.path)
        found = loader.repository.load_config(name)
        assert found is not None
        raw = OmegaConf.to_container(found.config, resolve=False)
        assert isinstance(raw, dict)
        own = {str(key): value for key, value in raw.items() if key not in ("defaults", "hydra")}
        group, _, option = name.partition("/")
        files.append(
            _File(
                group=group if option else "",
                option=option or group,
                path=root / f"{name}.yaml",
                packaged=packaged,
                content=_below_package(default.package, own),
            )
        )
    # Last: overrides are written into what has been read.
    return hydra_compose("config", overrides=list(overrides)), files


def _below_package(package: str | None, content: Document) -> Document:
    for name in reversed(package.split(".") if package else []):
        content = {name: content}
    return content


def _merged(files: Sequence[_File]) -> DictConfig:
    """The job as the files alone make it, without overrides of keys."""
    job = OmegaConf.create()
    for file in files:
        job.merge_with(file.content)
    return job


def _choices(files: Sequence[_File]) -> list[tuple[str, _File]]:
    return [(file.group, file) for file in files if file.group]


def _plain(node: DictConfig, prefix: str, problems: list[Problem]) -> Document:
    """Plain values of a node; what is missing or cannot be resolved becomes None and a problem."""
    values: Document = {}
    for name in map(str, node):
        key = f"{prefix}{name}"
        if OmegaConf.is_missing(node, name):
            problems.append(Problem(key=key, text="a value is required", hint=f"{key}=VALUE"))
            values[name] = None
            continue
        try:
            value = node[name]
            if isinstance(value, DictConfig):
                value = _plain(value, f"{key}.", problems)
            elif isinstance(value, ListConfig):
                value = OmegaConf.to_container(value, resolve=True)
        except OmegaConfBaseException as error:
            problems.append(Problem(key=key, text=str(error).splitlines()[0]))
            value = None
        values[name] = value
    return values


def _origins(
    values: Document, files: Sequence[_File], parsed: Sequence[Override], defaults: Document
) -> dict[str, Origin]:
    leaves = flatten(values)
    origins: dict[str, Origin] = {}
    for file in files:
        kind: Literal["packaged", "user"] = "packaged" if file.packaged else "user"
        for key in flatten(file.content):
            for leaf in _below(key, leaves):
                origins[leaf] = Origin(kind=kind, where=file.label)
    for item in parsed:
        if _is_group(item):
            continue
        for leaf in _below(item.key_or_group, leaves):
            where = f"command line: {_as_typed(item)}"
            origins[leaf] = Origin(kind="override", where=where, default=defaults.get(leaf))
    return {key: origins[key] for key in leaves if key in origins}


def _below(key: str, leaves: Document) -> list[str]:
    return [leaf for leaf in leaves if leaf == key or leaf.startswith(f"{key}.")]


def _where(key: str, origins: dict[str, Origin]) -> str:
    return origins[key].where if key in origins else ""


# ---------------------------------------------------------------- messages


def _no_benchmark(conf_dirs: Sequence[Path]) -> ConfigError:
    names = ", ".join(option.name for option in find_options("benchmark", conf_dirs))
    return ConfigError(
        f"no benchmark chosen; there are: {names}",
        hint="mlps benchmark=kvcache/quick cluster=local",
    )


def _unknown_option(error: MissingConfigException, conf_dirs: Sequence[Path]) -> ConfigError:
    missing = error.missing_cfg_file or ""
    group, _, name = missing.partition("/")
    if group not in GROUPS:
        return ConfigError(_joined(error))
    names = [option.name for option in find_options(group, conf_dirs)]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return ConfigError(
        f"{group}={name}: no such option; there are: {', '.join(names)}",
        hint=f"{group}={near[0]}" if near else "mlps --help lists them with what they are for",
    )


def _broken_yaml(error: yaml.MarkedYAMLError) -> ConfigError:
    mark = error.problem_mark
    place = f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}" if mark else "YAML"
    return ConfigError(f"{place}: {error.problem or 'this is not YAML'}")


def _joined(error: BaseException) -> str:
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None:
        text = " ".join(line.strip() for line in str(current).splitlines() if line.strip())
        if text and text not in parts:
            parts.append(text)
        current = current.__cause__
    return ": ".join(parts) or type(error).__name__
