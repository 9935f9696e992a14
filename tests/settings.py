"""The settings under test: the product's own, over a data folder that nobody else uses.

Set in the environment, so that the commands which tests run as processes of their own have it too.
"""

import atexit
import os
import shutil
import tempfile

# What all processes of a run make once and then share (`tests.shared`); the first one makes the folder.
if "VITRINE_TESTS_SHARED" not in os.environ:
    os.environ["VITRINE_TESTS_SHARED"] = tempfile.mkdtemp(prefix="vitrine-tests-shared-")
    atexit.register(shutil.rmtree, os.environ["VITRINE_TESTS_SHARED"], ignore_errors=True)

os.environ["VITRINE_DATA_DIR"] = tempfile.mkdtemp(prefix="vitrine-tests-")
atexit.register(shutil.rmtree, os.environ["VITRINE_DATA_DIR"], ignore_errors=True)
os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks a model hub
os.environ["VITRINE_THROTTLE"] = "off"  # all tests together are one client
os.environ["VITRINE_IMPORT_FETCH"] = "private"  # the tests' shops are on this machine
for _name in ("VITRINE_MODEL", "VITRINE_POOLING", "VITRINE_MODEL_REVISION", "DATABASE_URL", "DJANGO_DEBUG"):
    os.environ.pop(_name, None)

# `make test-postgres` names a server; whoever tests does not thereby test on the database of a site.
if os.environ.get("TEST_DATABASE_URL"):
    os.environ["DATABASE_URL"] = os.environ["TEST_DATABASE_URL"]

from config.settings import *  # noqa: E402, F403

STATIC_ROOT.mkdir()  # noqa: F405  (WhiteNoise warns where there is none)
