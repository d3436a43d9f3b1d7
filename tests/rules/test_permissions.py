"""What strangers see of a command line: the script's name, never an argument."""

from __future__ import annotations

from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.model.snapshot import ProcessReading
from gpuwatch.rules.permissions import visible_command


@pytest.mark.parametrize(
    ("command", "comm", "seen"),
    [
        ("python train.py --token SECRET", "python", "train.py"),
        ("/usr/bin/python3.11 -u /home/lisa/my/train.py --lr 1", "python3.11", "train.py"),
        ("python3 -m pkg.mod SECRET", "python3", "pkg.mod"),
        ("python3 -mpkg.mod SECRET", "python3", "pkg.mod"),
        ("python3 -um pkg.mod SECRET", "python3", "pkg.mod"),
        ("python -W ignore -X dev -O train.py SECRET", "python", "train.py"),
        ("python -Wignore train.py", "python", "train.py"),
        ("python -c print('SECRET') x", "python", "python"),
        ("python -uc SECRET", "python", "python"),
        ("python - SECRET", "pt_main_thread", "pt_main_thread"),
        ("python", "python", "python"),
        ("python -m ipykernel_launcher -f /run/SECRET/kernel.json", "python", "ipykernel_launcher"),
        ("python /opt/bin/torchrun --nproc_per_node 8 train.py --key SECRET", "torchrun", "train.py"),
        ("python /opt/bin/accelerate launch --config_file SECRET.yaml train.py", "python", "train.py"),
        ("torchrun --standalone train.py SECRET.py", "torchrun", "train.py"),
        ("torchrun -m pkg.train SECRET", "torchrun", "pkg.train"),
        ("accelerate launch --multi_gpu finetune.py --hub_token SECRET", "accelerate", "finetune.py"),
        ("deepspeed --num_gpus 8 ds.py --key SECRET", "deepspeed", "ds.py"),
        ("accelerate launch --key SECRET", "accelerate", "accelerate"),
        ("bash run.sh SECRET", "bash", "run.sh"),
        ("-bash", "bash", "bash"),
        ("bash -c train --key SECRET", "bash", "bash"),
        ("bash -lc SECRET", "bash", "bash"),
        ("sh -x -o pipefail /srv/run.sh SECRET", "sh", "run.sh"),
        ("bash -s SECRET", "bash", "bash"),
        ("perl -I lib a.pl SECRET", "perl", "a.pl"),
        ("perl -ne SECRET file", "perl", "perl"),
        ("Rscript --vanilla a.R SECRET", "Rscript", "a.R"),
        ("Rscript -e SECRET", "Rscript", "Rscript"),
        ("julia --project=. -t 8 fit.jl SECRET", "julia", "fit.jl"),
        ("julia --threads 8 SECRET", "julia", "julia"),
        ("julia -e SECRET", "julia", "julia"),
        ("java -Dpassword=SECRET -cp a:b com.lab.Main SECRET", "java", "com.lab.Main"),
        ("java -p mods -m lab.app/com.lab.Main --token SECRET SECRET", "java", "com.lab.Main"),
        ("java --module=lab.app --token SECRET", "java", "lab.app"),
        ("java -m", "java", "java"),
        ("java -Xmx8g -jar /opt/app.jar SECRET", "java", "app.jar"),
        ("node --max-old-space-size=4096 server.js SECRET", "node", "server.js"),
        ("node -r ./SECRET server.js", "node", "server.js"),
        ("node --eval SECRET", "node", "node"),
        ("/home/lisa/bin/simulate --key SECRET", "simulate", "simulate"),
        ("mpirun -np 4 python train.py SECRET", "mpirun", "mpirun"),
        ("./a.out SECRET", None, "a.out"),
        ("", "kernel", "kernel"),
        (None, "comm", "comm"),
        (None, None, ""),
        ("   ", "x", "x"),
    ],
)
def test_strangers_see_the_script(command: Optional[str], comm: Optional[str], seen: str) -> None:
    process = ProcessReading(command=command, name=comm)
    assert visible_command(process, "stranger") == seen
    assert "SECRET" not in visible_command(process, "stranger")


@pytest.mark.parametrize("audience", ["member", "admin"])
def test_members_see_all(audience: str) -> None:
    process = ProcessReading(command="python train.py --lr 1", name="python")
    assert visible_command(process, audience) == "python train.py --lr 1"
    assert visible_command(process, "stranger", show_arguments=True) == "python train.py --lr 1"


PROGRAMS = st.sampled_from(["python", "python3.11", "bash", "sh", "perl", "Rscript", "julia", "java", "node", "torchrun", "accelerate", "deepspeed", "./sim", "ruby", "zsh"])
FLAGS = st.sampled_from(["-u", "-x", "-O", "--quiet", "--level=3", "-W", "-c", "-e", "-m", "-jar", "launch", "--", "-", "-lc"])


@given(PROGRAMS, st.lists(FLAGS, max_size=4), st.booleans())
def test_what_follows_the_script_is_never_seen(program: str, flags: "list[str]", script: bool) -> None:
    words = [program, *flags, *(["run.py"] if script else []), "--token", "SECRET", "SECRET.py"]
    process = ProcessReading(command=" ".join(words), name="comm")
    seen = visible_command(process, "stranger")
    if script:
        assert "SECRET" not in seen
    assert " " not in seen


@given(st.text(max_size=200), st.none() | st.text(max_size=15))
def test_any_text(command: str, comm: Optional[str]) -> None:
    seen = visible_command(ProcessReading(command=command, name=comm), "stranger")
    assert isinstance(seen, str)
