"""Other users of the machine, who may write to the folder: nothing of theirs is followed or believed.

An attacker has a user id of his own, and the folder no protection: no sticky bit, so that the kernel's own
`fs.protected_*` do not matter.
"""

import gzip
import os
import re
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from conftest import PATIENCE, Ended, WatchedSandbox, arguments, environment
from support import PROJECT, fpga, image
from test_command import Start, files, outcomes, write_pairs
from test_interruptions import associated, await_requests, end_of, write_report
from test_reports_are_kept import kill_early

from batch.engine.rate import Rate
from batch.engine.retry import RetryPolicy
from batch.errors import InputMissingError, InputUnusableError
from batch.folder import Folder, distrust
from batch.input import files as source_files
from batch.input import open_source
from batch.results.report import open_report, unused
from batch.run import Run
from batch.settings import RunSettings
from jobs.association import Associate
from jobs.endpoints import Site
from jobs.sandbox import Faults

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for two users")

SOMEBODY = 65534
Attack = Callable[..., None]


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that everybody may write to."""
    folder = Path(tempfile.mkdtemp(prefix="shared-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def run(shared: Path) -> Callable[..., Ended]:
    """Run the command in the shared folder."""

    def running(*args: str, service: str | None = None, **variables: str) -> Ended:
        done = subprocess.run(
            arguments(*args),
            cwd=shared,
            env={"PYTHONPATH": str(Path.cwd()), **environment(shared, service, variables)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            encoding="utf-8",
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ended(done.returncode, done.stdout, done.stderr)

    return running


def run_bound(folder: Path, *args: str, service: str) -> Ended:
    """Run the command there as a user who is bound to what files allow, which root is not."""
    done = subprocess.run(
        ["setpriv", "--bounding-set=-all", *arguments(*args)],
        cwd=folder,
        env={"PYTHONPATH": str(Path.cwd()), **environment(folder, service, {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        encoding="utf-8",
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def attack(shared: Path) -> Attack:
    """Run a line of shell in the shared folder as somebody else."""

    def attacking(line: str, *values: object) -> None:
        subprocess.run(
            [
                *("setpriv", f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", "--clear-groups"),
                *("sh", "-euc", line, "sh", *map(str, values)),
            ],
            cwd=shared,
            check=True,
            timeout=PATIENCE,
        )

    return attacking


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A file of the user's that nothing here may change."""
    file = tmp_path / "precious"
    file.write_text("precious\n")
    return file


JOURNAL = "pairs.report.csv.journal"
REFUSED = "so it is not trusted to be a run's journal"


@pytest.mark.parametrize("restart", [(), ("--restart",)])
@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (f'ln -s "$1" {JOURNAL}', "it is no regular file, and belongs to nobody"),
        (f"ln -s /nowhere/at/all {JOURNAL}", "it is no regular file, and belongs to nobody"),
        (f"mkfifo {JOURNAL}", "it is no regular file, and belongs to nobody"),
        (f"touch {JOURNAL}", "it belongs to nobody"),
        (f"truncate -s 40G {JOURNAL}", "it belongs to nobody"),
    ],
    ids=["link", "link to nowhere", "pipe", "file", "sparse file"],
)
def test_a_planted_journal_is_refused_and_nothing_is_sent_or_written(
    run: Callable[..., Ended],
    attack: Attack,
    shared: Path,
    precious: Path,
    sandbox: WatchedSandbox,
    plant: str,
    reason: str,
    restart: tuple[str, ...],
) -> None:
    write_pairs(shared / "pairs.csv", 1)
    attack(plant, precious)
    ended = run("associate", "pairs.csv", *restart, service=sandbox.url)
    assert ended.exit_code == 78
    assert f"{JOURNAL}: {reason}, {REFUSED}" in ended.stderr
    assert (sandbox.requests, precious.read_text()) == (0, "precious\n")
    assert files(shared) == ["pairs.csv", JOURNAL]
    write_report(shared / "pairs.report.csv", "associate", [("succeeded", "")])
    for command in ("report", "undo", "resume"):
        ended = run(command, "pairs.report.csv", service=sandbox.url)
        assert (ended.exit_code, sandbox.requests) == (78, 0), ended
        assert reason in ended.stderr


def test_a_journal_that_may_not_even_be_opened_names_its_owner(
    attack: Attack, shared: Path, sandbox: WatchedSandbox
) -> None:
    write_pairs(shared / "pairs.csv", 1)
    attack(f"touch {JOURNAL} && chmod 0 {JOURNAL}")
    ended = run_bound(shared, "associate", "pairs.csv", service=sandbox.url)
    assert (ended.exit_code, sandbox.requests) == (78, 0)
    assert f"{JOURNAL}: it belongs to nobody, {REFUSED}: unless a run of nobody is under way" in ended.stderr


def test_a_journal_with_another_name_or_that_others_may_write_to_is_refused(
    run: Callable[..., Ended], shared: Path, precious: Path, sandbox: WatchedSandbox
) -> None:
    write_pairs(shared / "pairs.csv", 1)
    journal = shared / JOURNAL
    os.link(precious, shared / "another")
    (shared / "another").rename(journal)
    ended = run("associate", "pairs.csv", "--restart", service=sandbox.url)
    assert (ended.exit_code, precious.read_text()) == (78, "precious\n")
    assert "it has another name as well" in ended.stderr
    journal.unlink()
    journal.touch()
    journal.chmod(0o666)
    ended = run("associate", "pairs.csv", service=sandbox.url)
    assert ended.exit_code == 78
    assert f"others may write to it, {REFUSED}: if nobody has tampered with it" in ended.stderr
    journal.chmod(0o600)
    assert run("associate", "pairs.csv", service=sandbox.url).exit_code == 0


def test_a_journal_of_a_run_that_has_ended_says_nothing_when_it_is_put_back(
    run: Callable[..., Ended], start: Start, shared: Path, tmp_path: Path, sandbox: WatchedSandbox
) -> None:
    """Somebody gives it another name before it goes, and its own again when the same list comes again."""
    write_pairs(tmp_path / "pairs.csv", *range(6))
    sandbox.faults = Faults(latency=0.2)
    process = start("associate", "pairs.csv", "--concurrency", "2", service=sandbox.url)
    await_requests(sandbox, 3)
    (tmp_path / "kept").hardlink_to(tmp_path / JOURNAL)
    assert end_of(process)[0] == 0
    sandbox.faults = Faults()
    for number in range(6):
        sandbox.associations.remove(PROJECT, fpga(number), image(number))
    (tmp_path / "kept").rename(shared / JOURNAL)
    shutil.copy(tmp_path / "pairs.csv", shared)
    assert run("associate", "pairs.csv", service=sandbox.url).exit_code == 0
    assert associated(sandbox) == {fpga(number) for number in range(6)}


def test_a_forged_journal_makes_no_row_succeeded(
    run: Callable[..., Ended],
    attack: Attack,
    start: Start,
    shared: Path,
    sandbox: WatchedSandbox,
    tmp_path: Path,
) -> None:
    """Somebody runs the same list against a service of his own, and leaves the journal of that."""
    write_pairs(tmp_path / "pairs.csv", *range(12))
    kill_early(start, sandbox, "associate", "pairs.csv")
    for number in range(12):
        with_it = (PROJECT, fpga(number), image(number))
        if with_it in sandbox.associations:
            sandbox.associations.remove(*with_it)
    shutil.copy(tmp_path / "pairs.csv", shared)
    shutil.copy(tmp_path / JOURNAL, shared)
    os.chown(shared / JOURNAL, SOMEBODY, SOMEBODY)
    assert run("associate", "pairs.csv", service=sandbox.url).exit_code == 78
    attack(f"rm {JOURNAL}")
    assert run("associate", "pairs.csv", service=sandbox.url).exit_code == 0
    assert associated(sandbox) == {fpga(number) for number in range(12)}


def test_a_journal_is_for_its_owner_alone_from_the_first_moment(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    """So that nobody else can hold its lock either."""
    write_pairs(tmp_path / "pairs.csv", 1)
    sandbox.faults = Faults(latency=1.0)
    os.umask(umask := os.umask(0))
    process = start("associate", "pairs.csv", service=sandbox.url)
    await_requests(sandbox, 1)
    assert stat.S_IMODE((tmp_path / JOURNAL).stat().st_mode) == 0o600
    assert umask == 0o022
    assert end_of(process)[0] == 0


@pytest.mark.parametrize("name", ["other.report.csv", "other.report.csv.journal", "pairs.report.csv~"])
def test_what_somebody_else_says_that_was_done_is_not_taken_for_done(
    run: Callable[..., Ended], start: Start, shared: Path, tmp_path: Path, sandbox: WatchedSandbox, name: str
) -> None:
    write_pairs(tmp_path / "pairs.csv", *range(12))
    if name.endswith(".journal"):
        kill_early(start, sandbox, "associate", "pairs.csv")
        shutil.copy(tmp_path / JOURNAL, shared / name)
        for _, fpga_image, ecs_image in list(sandbox.associations):
            sandbox.associations.remove(PROJECT, fpga_image, ecs_image)
    else:
        write_report(shared / name, "associate", [("succeeded", "")] * 12)
    os.chown(shared / name, SOMEBODY, SOMEBODY)
    shutil.copy(tmp_path / "pairs.csv", shared)
    assert run("associate", "pairs.csv", service=sandbox.url).exit_code == 0
    assert associated(sandbox) == {fpga(number) for number in range(12)}


def test_what_somebody_else_says_that_was_undone_is_sent_again(
    run: Callable[..., Ended], shared: Path, sandbox: WatchedSandbox
) -> None:
    """That costs requests at most."""
    write_report(shared / "pairs.report.csv", "associate", [("succeeded", ""), ("failed", "image_full")])
    undone = shared / "their.undo.csv"
    write_report(undone, "disassociate", [("succeeded", "")])
    undone.write_text(undone.read_text().replace("2026-01", "2026-02"))
    os.chown(undone, SOMEBODY, SOMEBODY)
    assert run("resume", "pairs.report.csv", service=sandbox.url).exit_code == 0
    assert associated(sandbox) == {fpga(1), fpga(2)}


# The report's temporary file


@pytest.mark.parametrize("plant", ["ln -s '{}' '{}'", "mkfifo '{1}'", "touch '{1}'", "mkdir '{1}'"])
def test_a_file_planted_under_the_old_name_of_the_temporary_one_is_in_nobodys_way(
    run: Callable[..., Ended],
    attack: Attack,
    shared: Path,
    precious: Path,
    sandbox: WatchedSandbox,
    plant: str,
) -> None:
    write_pairs(shared / "pairs.csv", 1)
    attack(plant.format(precious, ".pairs.report.csv.tmp"))
    assert run("associate", "pairs.csv", service=sandbox.url).exit_code == 0
    assert outcomes(shared / "pairs.report.csv") == ["succeeded"]
    assert (shared / "pairs.report.csv").stat().st_uid == os.geteuid()
    assert precious.read_text() == "precious\n"


def test_the_file_of_a_killed_run_is_removed_by_the_next_and_no_file_of_another_user(
    run: Callable[..., Ended], attack: Attack, shared: Path, sandbox: WatchedSandbox
) -> None:
    write_pairs(shared / "pairs.csv", 1)
    left, theirs = ".pairs.report.csv.0123abcd.tmp", ".pairs.report.csv.abcd0123.tmp"
    (shared / left).touch()
    others = [".pairs.report.csv.original.tmp", ".pairs.report.csv.0123abcd9.tmp"]
    for name in others:
        (shared / name).touch()
    attack(f"touch {theirs}")
    assert run("associate", "pairs.csv", service=sandbox.url).exit_code == 0
    assert files(shared) == sorted(["pairs.csv", "pairs.report.csv", theirs, *others])


@pytest.mark.parametrize(
    ("of_list", "umask", "mode"), [(0o666, 0o000, 0o644), (0o664, 0o002, 0o644), (0o600, 0o000, 0o600)]
)
def test_what_somebody_else_lets_others_write_lets_nobody_write_the_report(
    run: Callable[..., Ended],
    shared: Path,
    sandbox: WatchedSandbox,
    of_list: int,
    umask: int,
    mode: int,
) -> None:
    write_pairs(shared / "pairs.csv", 1)
    (shared / "pairs.csv").chmod(of_list)
    os.chown(shared / "pairs.csv", SOMEBODY, SOMEBODY)
    before = os.umask(umask)
    try:
        assert run("associate", "pairs.csv", service=sandbox.url).exit_code == 0
        report = shared / "pairs.report.csv"
        assert stat.S_IMODE(report.stat().st_mode) == mode
        report.chmod(0o666)
        os.chown(report, SOMEBODY, SOMEBODY)
        assert run("associate", "pairs.csv", service=sandbox.url).exit_code == 0
    finally:
        os.umask(before)
    assert (report.stat().st_uid, stat.S_IMODE(report.stat().st_mode)) == (0, mode)


def test_a_report_of_somebody_elses_that_nobody_may_read_stays_so(
    run: Callable[..., Ended], attack: Attack, shared: Path, sandbox: WatchedSandbox
) -> None:
    write_pairs(shared / "pairs.csv", 1)
    attack("touch pairs.report.csv && chmod 640 pairs.report.csv")
    assert run("associate", "pairs.csv", service=sandbox.url).exit_code == 0
    assert stat.S_IMODE((shared / "pairs.report.csv").stat().st_mode) == 0o640


def test_a_file_that_may_not_be_replaced_names_its_owner(
    attack: Attack, shared: Path, sandbox: WatchedSandbox
) -> None:
    write_pairs(shared / "pairs.csv", 1)
    attack("touch pairs.report.csv")
    shared.chmod(0o1777)
    os.chown(shared, SOMEBODY, SOMEBODY)
    ended = run_bound(shared, "associate", "pairs.csv", service=sandbox.url)
    assert (ended.exit_code, sandbox.requests) == (74, 0)
    assert "Operation not permitted (it belongs to nobody); nothing was sent" in ended.stderr


def test_an_earlier_report_that_somebody_else_has_put_there_is_not_named_to_be_undone(
    run: Callable[..., Ended], shared: Path, sandbox: WatchedSandbox
) -> None:
    write_report(shared / "pairs.report.csv", "associate", [("failed", "")])
    kept = shared / "pairs.report.csv~"
    write_report(kept, "associate", [("succeeded", "")])
    assert (
        "pairs.report.csv~, which it has replaced"
        in run("undo", "pairs.report.csv", service=sandbox.url).stderr
    )
    os.chown(kept, SOMEBODY, SOMEBODY)
    assert "~" not in run("undo", "pairs.report.csv", service=sandbox.url).stderr


def test_the_result_finds_a_name_however_many_are_taken(attack: Attack, shared: Path) -> None:
    attack("for n in '' $(seq -f -%g 999); do touch pairs.report.result$n.csv; done")
    found = unused(shared / "pairs.report.csv", Folder(shared), "result")
    assert re.fullmatch(r"pairs\.report\.result-[0-9a-f]{8}\.csv", found.name)


# Links and folders


@pytest.mark.parametrize("option", ["--report", "--failures"])
def test_a_link_of_somebody_elses_is_not_followed(
    run: Callable[..., Ended],
    attack: Attack,
    shared: Path,
    tmp_path: Path,
    sandbox: WatchedSandbox,
    option: str,
) -> None:
    write_pairs(shared / "pairs.csv", 1)
    attack('ln -s "$1" out.csv', tmp_path / "new.csv")
    ended = run("associate", "pairs.csv", option, "out.csv", service=sandbox.url)
    assert (ended.exit_code, sandbox.requests) == (74, 0)
    assert "out.csv: cannot be written: out.csv is a link of nobody, so it is not followed" in ended.stderr
    assert not (tmp_path / "new.csv").exists()


@pytest.mark.parametrize(
    ("plant", "args"),
    [
        ('ln -s "$1" drop', ["drop/pairs.csv"]),
        ('ln -s "$1" drop', ["pairs.csv", "--report", "drop/out.csv"]),
        ('ln -s "$1" drop', ["pairs.csv", "--failures", "drop/out.csv"]),
        ('ln -s "$1" drop', ["pairs.csv", "--report", "own.csv"]),
        ('ln -s "$1" drop', ["own/pairs.csv"]),
        ('ln -s "$1" there && ln -s there/. drop', ["drop/pairs.csv"]),
    ],
    ids=["beside the list", "report", "failures", "own link to it", "own folder link to it", "two of them"],
)
def test_nothing_is_written_into_a_folder_that_a_link_of_somebody_elses_leads_to(
    run: Callable[..., Ended],
    attack: Attack,
    shared: Path,
    tmp_path: Path,
    sandbox: WatchedSandbox,
    plant: str,
    args: list[str],
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    for folder in (target, shared):
        write_pairs(folder / "pairs.csv", 1)
    (shared / "own.csv").symlink_to("drop/out.csv")
    (shared / "own").symlink_to("drop")
    attack(plant, target)
    ended = run("associate", *args, service=sandbox.url)
    assert (ended.exit_code, sandbox.requests) == (74, 0)
    assert "drop is a link of nobody, so it is not followed: name what it leads to; nothing" in ended.stderr
    assert files(target) == ["pairs.csv"]


def test_what_others_links_lead_to_can_be_looked_at(
    run: Callable[..., Ended], attack: Attack, tmp_path: Path
) -> None:
    write_report(tmp_path / "pairs.report.csv", "associate", [("succeeded", "")])
    attack('ln -s "$1" current', tmp_path)
    assert "1 row" in run("report", "current/pairs.report.csv").stdout


def test_links_of_ones_own_lead_where_they_led(
    run: Callable[..., Ended], shared: Path, tmp_path: Path, sandbox: WatchedSandbox
) -> None:
    for name in ("a/b", "c"):
        (tmp_path / name).mkdir(parents=True)
    write_pairs(tmp_path / "a" / "b" / "pairs.csv", 1)
    (shared / "relative").symlink_to(os.path.relpath(tmp_path / "a" / "b", shared))
    (shared / "up").symlink_to("relative/../b")
    (shared / "absolute").symlink_to(shared / "up")
    (tmp_path / "a" / "b" / "out.csv").symlink_to("../../c/real.csv")
    ended = run("associate", "absolute/pairs.csv", "--report", "absolute/out.csv", service=sandbox.url)
    assert ended == (0, "", "")
    assert outcomes(tmp_path / "c" / "real.csv") == ["succeeded"]
    assert (tmp_path / "a" / "b" / "out.csv").is_symlink()
    for number in range(45):
        (shared / f"link{number}").symlink_to(f"link{number + 1}")
    ended = run("associate", "absolute/pairs.csv", "--report", "link0/out.csv", service=sandbox.url)
    assert ended.exit_code == 74
    assert "Too many levels of symbolic links; nothing was sent" in ended.stderr


def test_a_folder_that_is_exchanged_before_the_rows_are_gone_through_again_gets_nothing(
    shared: Path, tmp_path: Path, sandbox: WatchedSandbox
) -> None:
    """Whose project it is can be known only when the service has been asked: then rows are looked at anew."""
    folder, target = shared / "drop", tmp_path / "target"
    folder.mkdir()
    target.mkdir()
    (folder / "pairs.csv").write_text(f"fpga_image_id,image_id,project_id\n{fpga(1)},{image(1)},{PROJECT}\n")
    source = open_source(str(folder / "pairs.csv"), format=None, columns=Associate.columns)
    job = Associate(Site(project="", endpoint=sandbox.url))
    settings = RunSettings("associate", "", folder / "out.csv", None, "", Rate(10), 1, RetryPolicy(1))
    with source:
        run = Run.prepare(source, job, settings)
        folder.rename(shared / "kept")
        folder.symlink_to(target)
        assert job.take_as_own(PROJECT)
        assert run.checked_anew().places is run.places


@pytest.mark.parametrize("command", ["report", "undo", "resume"])
@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        ("mkfifo pairs.report.csv", "it is a pipe of nobody, which is not waited for"),
        ("ln -s /dev/zero pairs.report.csv", "pairs.report.csv is a link of nobody, so it is not followed"),
        ("truncate -s 40G pairs.report.csv", "no text at all"),
        ("echo row,job,outcome >pairs.report.csv && truncate -s 40G pairs.report.csv", "128 MiB at most"),
    ],
    ids=["pipe", "link to a device", "sparse", "sparse with header"],
)
def test_a_trap_in_place_of_a_report_is_not_waited_for(
    run: Callable[..., Ended],
    attack: Attack,
    shared: Path,
    sandbox: WatchedSandbox,
    command: str,
    plant: str,
    reason: str,
) -> None:
    attack(plant)
    ended = run(command, "pairs.report.csv", service=sandbox.url)
    assert reason in ended.stderr, ended
    assert (sandbox.requests, files(shared)) == (0, ["pairs.report.csv"])


def test_a_pipe_that_is_ones_own_or_has_no_name_is_read_as_a_report(shared: Path, tmp_path: Path) -> None:
    write_report(tmp_path / "r.csv", "associate", [("succeeded", "")])
    os.mkfifo(shared / "own.csv")
    lines = [
        'cat "$1" >own.csv & "$2" "$3" report own.csv',
        'cat "$1" | "$2" "$3" report /dev/stdin',
        '"$2" "$3" report <(cat "$1")',
        '"$2" "$3" report /dev/stdin <"$1"',
    ]
    for line in lines:
        said = subprocess.run(
            ["bash", "-euc", line, "bash", str(tmp_path / "r.csv"), *arguments()],
            cwd=shared,
            env={"PYTHONPATH": str(Path.cwd()), **environment(shared, None, {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=True,
            encoding="utf-8",
        )
        assert "1 row" in said.stdout, line


def test_a_report_that_was_come_across_is_read_only_if_it_is_a_file(tmp_path: Path) -> None:
    """It may become a pipe after it was looked at."""
    os.mkfifo(tmp_path / "pairs.report.csv")
    with pytest.raises(InputMissingError, match="it is no regular file"):
        open_report(str(tmp_path / "pairs.report.csv"), is_found=True)


def test_of_a_report_of_somebody_elses_that_was_come_across_no_more_is_read_than_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "pairs.report.csv.gz"
    write_report(tmp_path / "r.csv", "disassociate", [("succeeded", "")] * 1000)
    report.write_bytes(gzip.compress((tmp_path / "r.csv").read_bytes()))
    monkeypatch.setattr(source_files, "_MOST_OF_OTHERS", 100_000)
    with open_report(str(report), is_found=True) as opened:
        assert len(list(opened.rows())) == 1000
    os.chown(report, SOMEBODY, SOMEBODY)
    with (
        pytest.raises(InputUnusableError, match="too large to be read to its end"),
        open_report(str(report), is_found=True) as opened,
    ):
        list(opened.rows())
    with open_report(str(report)) as opened:
        assert len(list(opened.rows())) == 1000


def test_no_digest_is_made_of_a_file_of_somebody_elses(shared: Path) -> None:
    """It may be endless."""
    folder = Folder(shared)
    (shared / "file").write_text("text")
    assert folder.sha256_of("file") != ""
    (shared / "link").symlink_to("file")
    os.mkfifo(shared / "pipe")
    os.chown(shared / "file", SOMEBODY, SOMEBODY)
    assert [folder.sha256_of(name) for name in ("file", "link", "pipe", "none")] == [""] * 4


@pytest.mark.parametrize("name", ["pairs.report.csv~", "left.csv"])
def test_a_pipe_that_is_planted_holds_up_no_end(
    run: Callable[..., Ended], attack: Attack, shared: Path, sandbox: WatchedSandbox, name: str
) -> None:
    write_pairs(shared / "pairs.csv", 1)
    write_report(shared / "pairs.report.csv", "associate", [("failed", "")])
    attack(f"mkfifo '{name}'")
    ended = run("associate", "pairs.csv", "--failures", "left.csv", service=sandbox.url)
    assert ended.exit_code == 0, ended
    assert outcomes(shared / "pairs.report.csv") == ["succeeded"]


def test_a_folder_that_is_planted_where_the_report_is_to_be_kept_is_found_before_anything_is_sent(
    run: Callable[..., Ended], attack: Attack, shared: Path, sandbox: WatchedSandbox
) -> None:
    write_pairs(shared / "pairs.csv", 1)
    attack("mkdir 'pairs.report.csv~'")
    ended = run("associate", "pairs.csv", service=sandbox.url)
    assert (ended.exit_code, sandbox.requests) == (74, 0)
    assert "cannot be kept as pairs.report.csv~, which is a directory; nothing was sent" in ended.stderr


def test_a_folder_that_is_exchanged_while_a_run_is_under_way_gets_nothing(
    sandbox: WatchedSandbox, shared: Path, tmp_path: Path
) -> None:
    """Report and journal stay in the folder that was there when the run began."""
    folder, target = shared / "drop", tmp_path / "target"
    folder.mkdir()
    target.mkdir()
    write_pairs(folder / "pairs.csv", 1, 2)
    sandbox.faults = Faults(latency=0.5)
    with subprocess.Popen(
        arguments("associate", "drop/pairs.csv"),
        cwd=shared,
        env={"PYTHONPATH": str(Path.cwd()), **environment(shared, sandbox.url, {})},
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        await_requests(sandbox, 1)
        folder.rename(shared / "kept")
        folder.symlink_to(target)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 74
    assert "drop was exchanged for another folder during the run; the report pairs.report.csv is in" in said
    assert files(target) == []
    assert files(shared / "kept") == ["pairs.csv", "pairs.report.csv"]
    assert outcomes(shared / "kept" / "pairs.report.csv") == ["succeeded"] * 2


def test_a_report_that_is_exchanged_while_it_takes_its_place_is_not_said_to_be_there(
    sandbox: WatchedSandbox, shared: Path
) -> None:
    write_pairs(shared / "pairs.csv", *range(40))
    is_over = threading.Event()

    def exchange() -> None:
        while not is_over.is_set():
            for path in shared.glob(".pairs.report.csv.*.tmp"):
                with suppress(FileNotFoundError):
                    path.unlink()
                    path.write_text("forged\n")

    sandbox.faults = Faults(latency=0.05)
    attacking = threading.Thread(target=exchange)
    attacking.start()
    try:
        ended = subprocess.run(
            arguments("associate", "pairs.csv"),
            cwd=shared,
            env={"PYTHONPATH": str(Path.cwd()), **environment(shared, sandbox.url, {})},
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            encoding="utf-8",
        )
    finally:
        is_over.set()
        attacking.join()
    report = shared / "pairs.report.csv"
    is_forged = report.exists() and report.read_text() == "forged\n"
    assert (ended.returncode == 0) == (not is_forged and report.exists())
    if is_forged:
        assert "somebody else has put another file there" in ended.stderr
        assert (shared / JOURNAL).exists()


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        ("mkdir fpga-batch-demo", "it belongs to nobody"),
        ("mkdir -m 777 fpga-batch-demo", "it belongs to nobody"),
        ('ln -s "$1" fpga-batch-demo', "cannot be written: fpga-batch-demo is a link of nobody"),
    ],
)
def test_the_demo_writes_into_no_folder_of_somebody_elses(
    run: Callable[..., Ended], attack: Attack, tmp_path: Path, plant: str, reason: str
) -> None:
    tmp_path.chmod(0o755)
    attack(plant, tmp_path)
    ended = run("demo")
    assert ended.exit_code in (74, 78)
    assert f"fpga-batch-demo: {reason}" in ended.stderr
    assert not (tmp_path / "pairs.csv").exists()


def test_the_demo_writes_into_no_folder_that_others_may_write_to(
    run: Callable[..., Ended], attack: Attack, shared: Path, precious: Path
) -> None:
    (shared / "fpga-batch-demo").mkdir()
    (shared / "fpga-batch-demo").chmod(0o777)
    attack('ln -s "$1" fpga-batch-demo/pairs.csv', precious)
    ended = run("demo")
    assert (ended.exit_code, precious.read_text()) == (78, "precious\n")
    assert "fpga-batch-demo: others may write to it" in ended.stderr


def test_the_demo_can_be_shown_again_whatever_the_umask(run: Callable[..., Ended]) -> None:
    before = os.umask(0o002)
    try:
        assert [run("demo").exit_code for _ in range(2)] == [0, 0]
    finally:
        os.umask(before)


def test_what_is_said_of_a_file_that_may_be_forged_names_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    check = partial(os.stat, file)
    assert distrust(check()) == ""
    os.chown(file, SOMEBODY, SOMEBODY)
    assert distrust(check()) == "it belongs to nobody"
    os.chown(file, 4_000_000, 4_000_000)
    assert distrust(check()) == "it belongs to user 4000000"


def test_the_sandboxs_certificate_goes_through_no_link_of_somebody_elses(
    run: Callable[..., Ended], attack: Attack, precious: Path
) -> None:
    attack('ln -s "$1" ca.pem', precious)
    ended = run("sandbox", "--port", "0", "--tls", "ca.pem")
    assert (ended.exit_code, precious.read_text()) == (74, "precious\n")
    assert "ca.pem: cannot be written: ca.pem is a link of nobody, so it is not followed" in ended.stderr
