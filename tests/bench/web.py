"""nginx with a configuration of its own on a free port of loopback, answering 204 to everything."""

import importlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from bench import SERVER_CORE, started

PATIENCE = 10.0

# One process, on the core that it is started on. What is to be temporary stays in the folder.
CONFIGURATION = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    large_client_header_buffers 4 64k;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port}{tls};
        location / {{ return 204; }}
    }}
}}
"""
TLS = " ssl;\n        ssl_certificate cert.pem;\n        ssl_certificate_key key.pem"


@contextmanager
def nginx(folder: Path, *, tls: bool = False) -> Iterator[str]:
    """Keep nginx on a core of its own; yield its address. TLS needs `cert.pem` and `key.pem` there."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:") or shutil.which("nginx")
    if program is None:
        raise SystemExit("nginx is not installed")
    port = free_port()
    configuration = folder / ("tls.conf" if tls else "plain.conf")
    configuration.write_text(CONFIGURATION.format(port=port, tls=TLS if tls else ""))
    command: list[str | Path] = [program, "-p", folder, "-e", "stderr", "-c", configuration]
    with started(command, core=SERVER_CORE) as process:
        wait_for(process, port)
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_for(process: subprocess.Popen[str], port: int) -> None:
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise SystemExit("nginx does not answer")


def certify(folder: Path) -> str:
    """Leave `cert.pem`, `key.pem` and the authority `ca.pem` in a folder; return why not, or nothing."""
    if find_spec("trustme"):
        trustme = importlib.import_module("trustme")
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(folder / "ca.pem")
        issued.private_key_and_cert_chain_pem.write_to_path(folder / "cert.pem")
        issued.private_key_pem.write_to_path(folder / "key.pem")
        return ""
    if not shutil.which("openssl"):
        return "neither trustme nor openssl is installed"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    command += " -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    made = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True, check=False)
    if made.returncode:
        return f"openssl makes no certificate: {made.stderr.strip().splitlines()[-1]}"
    shutil.copy(folder / "cert.pem", folder / "ca.pem")
    return ""
