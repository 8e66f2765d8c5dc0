"""The README says what the program does, no more and no less."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest
import typer

from batch import errors
from batch.model import Status
from batch.results.report import LEADING_COLUMNS, OUTCOME_COLUMNS
from jobs.association import AssociationJob
from jobs.cli import app
from jobs.options import LoginOptions
from jobs.reasons import REASONS
from jobs.sandbox import Faults

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
RUNS = ("associate", "disassociate", "verify", "resume", "undo")
NOT_TAKEN = {"resume": {"--format", "--read-back"}, "undo": {"--format", "--only"}}


def section(title: str) -> str:
    """Return what stands under a heading, up to the next of its rank or above."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,6}} |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title!r}"
    return found[2]


def table(text: str, head: str) -> list[str]:
    """Return the first cells of the table whose first heading is `head`."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {head} |")) + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append(re.split(r"(?<!\\)\|", line)[1].strip())
    return rows


def flags(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))


def options_of(command: str) -> set[str]:
    named = {name for each in COMMANDS[command].params for name in (*each.opts, *each.secondary_opts)}
    return {name for name in named if name.startswith("-")} - {"-h", "--help"}


def test_every_command_is_described_and_no_other() -> None:
    described = {row.split()[1].strip("`") for row in table(section("Commands"), "Command")}
    assert described == set(COMMANDS)


@pytest.mark.parametrize("command", RUNS)
def test_every_option_of_a_run_is_described_and_no_other(command: str) -> None:
    described = flags("\n".join(table(section("Options of a run"), "Option")))
    assert options_of(command) == described - NOT_TAKEN.get(command, {"--only", "--read-back"})


def test_login_takes_the_options_of_a_run_that_say_where_the_service_is() -> None:
    options = options_of("login")
    assert options < options_of("associate")
    assert options == {f"--{each.name.replace('_', '-')}" for each in fields(LoginOptions)} | {"-v"}


def test_every_variable_that_credentials_are_taken_from_is_described_and_no_other() -> None:
    text = section("Credentials")
    source = ROOT / "jobs" / "auth" / "credentials"
    names = re.compile(r"(?:FPGA_BATCH|HUAWEICLOUD_SDK|HW|OS)_[A-Z_]*[A-Z]")
    used = {name for path in source.glob("*.py") for name in names.findall(path.read_text())}
    described = set(names.findall(text))
    quiet = {name for name in used if name.endswith(("_INSECURE", "_DOMAIN_ID", "PROJECT_DOMAIN_NAME"))}
    assert described - {"FPGA_BATCH_REGION"} == used - quiet


def test_every_option_of_the_sandbox_is_described_and_no_other() -> None:
    assert flags("\n".join(table(section("Rehearse"), "Option"))) == options_of("sandbox")


def test_the_defaults_are_the_programs() -> None:
    text = section("Options of a run")
    defaults = {name: each.default for each in COMMANDS["associate"].params for name in each.opts}
    for name in ("--rate", "--concurrency", "--max-attempts", "--timeout", "--max-outage", "--log-format"):
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name} "))
        default = defaults[name]
        shown = re.split(r"(?<!\\)\|", row)[2].strip().strip("`")
        assert shown == (f"{default:g}" if isinstance(default, float) else str(default)), name


def test_every_option_can_be_set_by_its_environment_variable() -> None:
    for command in (*RUNS, "login", "check", "report", "sandbox"):
        for each in COMMANDS[command].params:
            if each.param_type_name == "option" and "--help" not in each.opts:
                longest = max(each.opts, key=len)
                first = each.envvar if isinstance(each.envvar, str) else each.envvar[0]
                assert first == "FPGA_BATCH_" + longest.lstrip("-").upper().replace("-", "_")


def test_every_fault_is_described_and_no_other() -> None:
    described = set(re.findall(r"`([a-z-]+)`", "\n".join(table(section("Rehearse"), "Fault"))))
    settings = {"latency", "rate_limit", "retry_after"}
    assert described == {name.replace("_", "-") for name in Faults.__annotations__ if name not in settings}


def test_the_columns_of_the_report_are_named_in_their_order() -> None:
    text = section("Report").split("`row` counts")[0]
    assert tuple(re.findall(r"`([a-z_]+)`", text)) == LEADING_COLUMNS + OUTCOME_COLUMNS


def test_the_columns_of_the_input_are_named() -> None:
    text = section("Input")
    for column in AssociationJob.columns:
        for name in (column.name, *column.aliases):
            assert f"`{name}`" in text


def test_every_outcome_is_described_and_no_other() -> None:
    assert [row.strip("`") for row in table(section("Report"), "`outcome`")] == [
        each.value for each in Status
    ]


def used_reasons() -> set[str]:
    """Collect the words that the program gives as reasons: where the calls that take one stand."""
    takes_one = {"Record", "_verdict", "Verdict", "Result", "_failure", "_told"}
    takes_one |= {"TransportError", "ScopeRefusedError"}
    word = re.compile("[a-z]+(_[a-z]+)*")
    found: set[str] = set()
    program = [path for name in ("batch", "jobs") for path in (ROOT / name).rglob("*.py")]
    for path in [each for each in program if ROOT / "jobs" / "sandbox" not in each.parents]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in takes_one:
                parts = list(node.args)
                for part in node.args:
                    parts += part.values if isinstance(part, ast.BoolOp) else []
                    parts += [part.body, part.orelse] if isinstance(part, ast.IfExp) else []
                found |= {each.value for each in parts if isinstance(each, ast.Constant) and each.value}
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "").startswith(
                "_REASONS_BY"
            ):
                by_code = isinstance(node.value, ast.Dict)
                values = node.value.values if by_code else [pair.elts[1] for pair in node.value.elts]  # type: ignore[attr-defined]
                found |= {each.value for each in values if isinstance(each, ast.Constant)}
    assert len(found) > 10, "the search finds nothing any more"
    return {each for each in found if isinstance(each, str) and word.fullmatch(each)}


def test_every_reason_is_described_and_no_other() -> None:
    described = {row.strip("`") for row in table(section("Report"), "`reason`")}
    # Those that stand as names in the code, not as words in a call.
    named = {"accepted", "rejected", "unreadable_answer", "timeout", "connection", "unread", "read_back"}
    assert described == REASONS == used_reasons() | named


def test_every_exit_code_of_an_error_is_described() -> None:
    described = {
        int(code) for row in table(section("Exit codes"), "code") for code in re.findall(r"\d+", row)
    }
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    assert {kind.exit_code for kind in kinds if issubclass(kind, errors.BatchError)} <= described


def test_ci_calls_the_test_command_of_the_readme() -> None:
    commands = re.findall(r"^python3 -m venv .*$", section("Try it"), re.MULTILINE)
    assert len(commands) == 2
    assert commands[1] in (ROOT / ".ci" / "run").read_text().splitlines()


def test_nothing_in_the_readme_is_longer_than_a_screen_is_wide() -> None:
    prose = [line for line in README.splitlines() if not line.startswith(("|", "3,", "2,", "1,"))]
    assert max(map(len, prose)) <= 122
