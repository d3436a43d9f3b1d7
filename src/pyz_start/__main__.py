"""The first lines that Python runs of gpuwatch.pyz; build_zipapp.py puts them at the top of the archive.

They answer `--version` before anything else is loaded, and see to it that no module from PYTHONPATH or from the
user's own site-packages takes the place of one of ours. Every Python can read this file (no new syntax), so that an
old one says what is wrong instead of showing a SyntaxError. It must never import more than what Python has loaded
already, and never use a name that the environment can redirect.
"""

import os
import sys

VERSION = "source"  # build_zipapp.py writes the version here,
BUILD = "source"  # and the name of what is inside, so that two builds never share an unpacked folder

if sys.version_info < (3, 9):  # noqa: UP036
    sys.exit("gpuwatch: needs Python 3.9 or newer, this is " + sys.version.split()[0] + ": try python3.11 gpuwatch.pyz")

if sys.argv[1:] in (["--version"], ["-V"]):
    try:
        os.write(1, ("gpuwatch " + VERSION + "\n").encode())
    except OSError:  # nobody reads our output
        os._exit(1)
    os._exit(0)  # nothing to tidy up, and Python's own tidying costs milliseconds

place = os.path.dirname(os.path.abspath(__file__))  # the archive, or the folder that it was unpacked to

# A PYTHONPATH or a user's site-packages may hold a bottle.py, a stale pynvml or a types.py, and may have run code of
# theirs already. Only a new interpreter that never looks there (-I) is clean. PYTHONHOME is left alone: an
# interpreter that needs it does not start without.
user_site = getattr(sys.modules.get("site"), "USER_SITE", None)
redirected = bool(os.environ.get("PYTHONPATH")) or user_site in sys.path
if redirected and not sys.flags.isolated and sys.executable and not os.environ.get("PYTHONHOME"):
    flags = ["-I"]
    if os.environ.get("PYTHONUNBUFFERED"):
        flags.append("-u")
    try:
        os.execv(sys.executable, [sys.executable] + flags + [place] + sys.argv[1:])
    except OSError:
        pass  # the interpreter was replaced under us: launch() at least puts our folder first

sys.path[0] = os.path.join(sys.path[0], "site-packages")  # a folder, or inside the archive
try:
    from pyz_start.launch import launch

    launch(place, "gpuwatch-" + VERSION + "-" + BUILD)
except KeyboardInterrupt:  # a Ctrl-C before the program is there to say so
    sys.exit(130)
finally:
    exec("")  # see gpuwatch.boot.main
