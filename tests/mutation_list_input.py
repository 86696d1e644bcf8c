"""Mutations of what reads input that may be damaged, and of what a user is told: see mutation_list.py."""

FOUND = "tests/fuzz/test_found_runs.py"
PICKLES = "tests/convert/test_foreign_pickle.py"
TORCH = "tests/convert/test_torch_zip.py"
TABLES = "tests/data/test_table_checks.py"
LABELS = "tests/test_label_sets.py"
IMAGES = "tests/data/test_images.py"
NPZ = "tests/test_npz.py"
FAILURES = "tests/system/test_failures.py"
STOP = "tests/system/test_stop_requests.py"
STORAGE = "tests/test_storage.py"
CONFIG = "tests/test_config.py"
ONLY_RUN = "tests/run/test_only_run.py"
COMPARE = "tests/run/test_compare.py"

INPUT_MUTATIONS = {
    "occjax/convert/foreign_pickle.py": [
        ("        _key(self.stack[-2])\n", "", PICKLES),
        ("int(value).bit_length() <= 64", "True", PICKLES),
        ("self.append(bytearray(self.read(length)))", "self.append(bytearray(length))", PICKLES),
        ("super().__init__((_key(key), value) for key, value in pairs)", "super().__init__(pairs)", PICKLES),
        ("pickle.EMPTY_SET + pickle.ADDITEMS + pickle.FROZENSET", "pickle.EMPTY_SET", PICKLES),
        ('raise RefusedNameError(f"{module}.{name}")', "return __import__(module).__dict__[name]", TORCH),
    ],
    "occjax/convert/torch_zip.py": [
        ("is_negative or count > len(values) or (count and last", "is_negative or (count and last", TORCH),
        ("except (ValueError, OverflowError) as error:  # numpy", "except ValueError as error:  # numpy", FOUND),
    ],
    "occjax/npz.py": [
        ("if info.file_size > largest + LONGEST_HEADER:", "if False:", NPZ),
        ('if dtype.kind not in "biufcSU" or dtype.itemsize == 0:', "if dtype.itemsize == 0:", NPZ),
        ("    if found != needed:", "    if found < needed:", NPZ),
        ("if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):", "if False:", NPZ),
    ],
    "occjax/data/table_checks.py": [
        ("and math.isfinite(value)", "", TABLES),
        ("abs(math.hypot(*value) - 1) <= 0.05", "True", TABLES),
        ("value[0][0] > 0 and value[1][1] > 0 and value[1][0] == 0", "value[1][0] == 0", TABLES),
        ('and ".." not in path.parts', "", TABLES),
        ("        if place in seen:", "        if False:", TABLES),
    ],
    "occjax/label_sets.py": [
        ("values.min() >= 0\n        and ", "", LABELS),
        ('(values.dtype.kind != "f" or (values == np.trunc(values)).all())', "True", LABELS),
        ("if not (semantics == FREE).any():", "if False:", LABELS),
        ("names, largest=grid.num_voxels * 8)", "names)", LABELS),
    ],
    "occjax/data/image_bytes.py": [
        (" or _PROGRESSIVE in data", "", IMAGES),
        ("            if hole >= 0:", "            if False:", IMAGES),
        ("if zlib.crc32(content) !=", "if 0 and zlib.crc32(content) !=", IMAGES),
    ],
    "occjax/data/tables.py": [("                if others\n", "                if True\n", TABLES)],
    "occjax/data/pipeline.py": [("if not isinstance(next_batch, int) or next_batch < 0:", "if False:", FOUND)],
    "occjax/system/failures.py": [
        ("if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):", "if number == errno.EDQUOT:", FAILURES),
        ('if "can\'t start new thread" in text:', "if False:", FAILURES),
        ('(isinstance(error, AssertionError) and _is_of(error, "xla_bridge"))', "False", FAILURES),
    ],
    "occjax/storage.py": [
        ("        scratch.unlink(missing_ok=True)", "        pass", STORAGE),
        ('if root and revision and (Path(root) / "occjax").resolve()', "if root or (Path(root)).resolve()", STORAGE),
    ],
    "occjax/system/stop_requests.py": [
        ("if signal.getsignal(number) is not signal.SIG_IGN", "", STOP),
        ("self.received = self.received or number", "self.received = number", STOP),
    ],
    "occjax/config_checks.py": [
        ("    require(not twice,", "    require(True,", CONFIG),
        ("        any(weight > 0 for weight in", "        any(weight >= 0 for weight in", CONFIG),
        ("not config.loss.distill.is_on or bool(config.data.teacher_dir)", "True", CONFIG),
    ],
    "occjax/run/only_run.py": [("        if not is_ours:", "        if False:", ONLY_RUN)],
    "occjax/run/evaluations.py": [
        ('results["subject"] != _STUDENT or ', "", COMPARE),
        (' or results["samples"] != results["split_samples"]', "", COMPARE),
        ("IndexError, TypeError, RecursionError)", "IndexError, RecursionError)", FOUND),
    ],
    "occjax/run/scoring.py": [("LookupError, TypeError, AttributeError, RecursionError)", "LookupError)", FOUND)],
    "occjax/train/metrics_log.py": [("(ValueError, KeyError, TypeError, OverflowError", "(ValueError", FOUND)],
    "occjax/train/checkpoint_failures.py": [("        if not is_whole:", "        if False:", FOUND)],
    "occjax/train/checkpoint.py": [
        ('if not isinstance(items["data"], dict):', "if False:", FOUND),
        ("for step in whole_steps(path):", "for step in ():", FOUND),
    ],
    "occjax/predict/stored_weights.py": [("KeyError, TypeError, OverflowError, RecursionError)", "KeyError)", FOUND)],
    "occjax/predict/export_folder.py": [
        ("        if matrices != {name:", "        if False and {name:", FOUND),
        ('hexdigest() != manifest["sha256"][name]', "hexdigest() is None", FOUND),
        ('<= found["sha256"].keys()', "<= MODELS.keys() | set(MODELS.values())", FOUND),
    ],
    "occjax/predict/frames.py": [("dict.fromkeys((reference, *found))", "found", "tests/predict/test_frames.py")],
    "occjax/run/initialisation.py": [("    except TypeError:  # by somebody's hand", "    except OSError:", FOUND)],
    "occjax/run_config.py": [("return found if isinstance(found, dict) else None", "return found", FOUND)],
    "occjax/convert/dump/info_pickle.py": [("    if not isinstance(value, str):", "    if value is None:", PICKLES)],
    "occjax/system/command_line.py": [
        ("        return 2\n", "        return 1\n", "tests/system/test_command_line.py")
    ],
}
