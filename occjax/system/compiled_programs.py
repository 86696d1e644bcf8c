"""Compiled programs on the disk: the second start of a run does not wait for the compiler."""

import hashlib
import logging
import os
from pathlib import Path

import jax

from occjax.system.cpu import processor_facts

_log = logging.getLogger(__name__)


def keep_compiled_programs() -> None:
    """Has jax keep what it compiles, in the user's cache folder: `$XDG_CACHE_HOME/occjax`, else `~/.cache/occjax`.

    JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=false does without; both are jax's own.
    A folder that the program has chosen by `jax.config` stays.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or jax.config.values["jax_compilation_cache_dir"]:
        return
    # A processor of another kind, of a cluster that shares its home folders, may not know this one's instructions.
    kind = hashlib.sha256(processor_facts().get("flags", "").encode()).hexdigest()[:12]
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "occjax" / kind
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        _log.warning("compiled programs are not kept: %s; set JAX_COMPILATION_CACHE_DIR", error)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
