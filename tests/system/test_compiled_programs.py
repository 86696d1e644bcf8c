"""Compiled programs are kept where the user keeps such things, unless the environment says otherwise."""

import os
import subprocess
import sys

import pytest

_CODE = """
import jax, jax.numpy as jnp
from occjax.system.compiled_programs import keep_compiled_programs
keep_compiled_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
print(jax.jit(lambda x: jnp.sin(x) + 1)(jnp.float32(0)))
"""


@pytest.mark.parametrize(
    ("settings", "kept_in"),
    [
        ({}, "home/.cache/occjax"),
        ({"XDG_CACHE_HOME": "xdg"}, "xdg/occjax"),
        ({"JAX_COMPILATION_CACHE_DIR": "own"}, "own"),
        ({"JAX_ENABLE_COMPILATION_CACHE": "false"}, None),
        ({"XDG_CACHE_HOME": "file"}, None),  # nothing can be written: a warning, and the run goes on
    ],
)
def test_where_programs_are_kept(tmp_path, settings, kept_in):
    (tmp_path / "file").write_text("")
    names = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in names} | settings
    environment |= {name: str(tmp_path / value) for name, value in settings.items() if value != "false"}
    result = subprocess.run(
        [sys.executable, "-c", _CODE],
        env=environment | {"HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.strip() == "1.0", result.stderr
    assert ("are not kept" in result.stderr) == (settings.get("XDG_CACHE_HOME") == "file")
    kept = {path.relative_to(tmp_path) for path in tmp_path.rglob("*-cache")}
    assert bool(kept) == bool(kept_in) and all(str(path).startswith(kept_in) for path in kept)
