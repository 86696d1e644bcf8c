"""Rules on single fields of a configuration: of which type a value is, and between which bounds it lies."""

import dataclasses
import difflib
import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from occjax.config import Config

_MOST = 2**31 - 1  # counts and steps are int32 on the device


class Rule(NamedTuple):
    """What the values of some fields have to keep to.

    Attributes:
      paths: of the fields.
      text: finishes "<path> must be".
      holds: whether a value keeps to it; of no test is NaN true.
      remedy: what to set instead.
    """

    paths: tuple[str, ...]
    text: str
    holds: Callable[[Any], bool]
    remedy: str


def _below(section: str, names: str) -> tuple[str, ...]:
    return tuple(f"{section}.{name}" for name in names.split())


_RULES = [
    Rule(
        ("name", "model.backbone.weights", *_below("data", "root version train_split val_split lidar_channel")),
        "a text that is not empty",
        lambda text: bool(text.strip()),
        "leave it out for its default",
    ),
    Rule(
        (
            *_below("data", "batch_size prefetch"),
            *_below("data.synthetic", "train_scenes keyframes_per_scene"),
            "model.backbone.width",
            "model.fpn_channels",
            *_below("model.depth", "bins channels"),
            *_below("model.view_transform", "channels cell_voxels"),
            *_below("model.bev_encoder", "blocks_per_stage neck_channels out_channels"),
            *_below("model.head", "channels hidden"),
            *_below("train", "epochs accumulate_steps ema_samples log_every"),
            "eval.batch_size",
        ),
        "at least 1",
        lambda value: 1 <= value <= _MOST,
        f"set a whole number from 1 to {_MOST}",
    ),
    Rule(
        ("data.max_skipped",),
        "at least 1",
        lambda value: 1 <= value <= _MOST,
        "to skip no sample at all set data.on_error=raise",
    ),
    Rule(
        ("train.keep_checkpoints",),
        "at least 1",
        lambda value: 1 <= value <= _MOST,
        "a run resumes from the newest one",
    ),
    # Of these 0 means something of its own: the first seed, no worker, all samples, as many steps as the epochs have.
    Rule(
        (
            *_below("data", "workers shuffle_seed"),
            *_below("data.synthetic", "seed val_scenes"),
            *_below("train", "seed steps warmup_steps checkpoint_every eval_every"),
            *_below("eval", "pictures max_samples"),
        ),
        "0 or more",
        lambda value: 0 <= value <= _MOST,
        f"set a whole number from 0 to {_MOST}",
    ),
    Rule(
        _below("data.synthetic", "image_width image_height"),
        "at least 32 pixels",
        lambda value: 32 <= value <= 8192,
        "nuScenes has 1600 by 900, at most 8192 are drawn",
    ),
    Rule(
        ("model.bev_encoder.stage_channels",),
        "one number from 1 on for each stage",
        lambda value: len(value) > 0 and all(1 <= channels <= _MOST for channels in value),
        'write it as "--config.model.bev_encoder.stage_channels=(128,256,512)"',
    ),
    Rule(
        ("model.backbone.frozen_stages",),
        "0 to 5",
        lambda value: 0 <= value <= 5,
        "0 trains all, 1 freezes the stem, 5 the stem and all four stages",
    ),
    Rule(
        _below("augment", "image_rotate_deg bev_rotate_deg"),
        "0 to 180 degrees",
        lambda value: 0 <= value <= 180,
        "images and scenes are turned by up to so much, either way",
    ),
    Rule(
        _below("augment", "image_scale bev_scale"),
        "a range, two positive numbers, the smaller first",
        lambda value: len(value) == 2 and 0 < value[0] <= value[1] < math.inf,
        'write it as "(0.95,1.05)", quotes included',
    ),
    Rule(
        ("model.depth.dropout",),
        "0 or more and below 1",
        # At 1 it would leave nothing.
        lambda value: 0 <= value < 1,
        "0 drops nothing",
    ),
    Rule(
        ("train.learning_rate", "loss.distill.temperature"),
        "above 0 and finite",
        lambda value: 0 < value < math.inf,
        "its default is what the recipes started from",
    ),
    Rule(
        ("train.clip_norm",),
        "above 0 and finite",
        # At 0 nothing would train, and below it the loss would be climbed.
        lambda value: 0 < value < math.inf,
        "for hardly any clipping set a large norm, such as 1e6",
    ),
    Rule(
        ("loss.distill.free_share", "train.warmup_factor"),
        "0 to 1",
        lambda value: 0 <= value <= 1,
        "it is a share",
    ),
]


def rules(config: Config) -> list[Rule]:
    """All rules; those of weights follow from the loss terms that are declared."""
    sections = (("loss", config.loss), ("loss.distill", config.loss.distill))
    weights = (f"{where}.{name}" for where, section in sections for name in section.weight_fields())
    amounts = Rule(
        ("train.weight_decay", "train.checkpoint_minutes", *weights),
        "0 or more and finite",
        lambda value: 0 <= value < math.inf,
        "0 switches it off",
    )
    return [*_RULES, amounts]


def range_problems(config: Config) -> list[str]:
    """What lies outside of its bounds, each as rule, value and remedy."""
    return [
        f"{path} must be {rule.text}, not {attrgetter(path)(config)!r}; {rule.remedy}"
        for rule in rules(config)
        for path in rule.paths
        if not rule.holds(attrgetter(path)(config))
    ]


def type_problems(section: Any, where: str = "config") -> list[str]:
    """Fields that do not exist, and values of another type than their field's; a section is a dataclass.

    In Python anything can be assigned to anything: a name mistyped in a file would be no error, but without effect.
    """
    found, kinds = [], get_type_hints(type(section))
    for name in sorted(vars(section).keys() - set(kinds)):
        found.append(no_such_field(section, where, name))
    for field in dataclasses.fields(section):
        value, kind, path = getattr(section, field.name), kinds[field.name], f"{where}.{field.name}"
        if dataclasses.is_dataclass(kind):
            if isinstance(value, kind):
                found += type_problems(value, path)
            else:
                fields = ", ".join(field_names(kind))
                found.append(f"{path} is a section, not a value such as {value!r}; set one of its fields: {fields}")
        elif not _is_of(value, kind):
            found.append(f"{path} must be {_in_words(kind)}, not {value!r}")
    return found


def no_such_field(holder: Any, where: str, name: str) -> str:
    """Names the fields that there are, and the one that may be meant."""
    # A field mistyped is the usual mistake, and nobody knows them all by heart.
    accepted = field_names(holder)
    close = difflib.get_close_matches(name, accepted, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return (
        f"{where} has no field {name!r}{hint}\n"
        f"  fields of {where}: {', '.join(accepted) or 'none, it is a plain value'}"
    )


def field_names(section: Any) -> list[str]:
    """Of a section, or of a class of sections; none of a plain value."""
    return [field.name for field in dataclasses.fields(section)] if dataclasses.is_dataclass(section) else []


_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}


def _is_of(value: Any, kind: Any) -> bool:
    if get_origin(kind) is tuple:
        # A file may write a list; which kinds of elements, and how many, is the same.
        inner = _elements(kind, len(value)) if isinstance(value, tuple | list) else None
        return inner is not None and all(_is_of(v, k) for v, k in zip(value, inner, strict=True))
    if get_origin(kind) is Literal:
        kind = type(get_args(kind)[0])
    # To Python True is 1 as well.
    return isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))


def _elements(kind: Any, count: int) -> tuple | None:
    """Type of each of `count` elements of the tuple type `kind`; None where it has not so many."""
    inner = get_args(kind)
    if inner[-1] is Ellipsis:
        return inner[:1] * count
    return inner if len(inner) == count else None


def _in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    if get_origin(kind) is not tuple:
        return _WORDS[kind]
    inner = get_args(kind)
    count = "" if inner[-1] is Ellipsis else f"{len(inner)} "
    return f"a tuple of {count}{_WORDS[inner[0]].removeprefix('a ')}s"
