"""A kept connection that another thread ends. What else it does is seen in the tests of who uses it (tests/node/test_push.py, tests/web/test_push.py)."""

import socket
import ssl
import threading

import pytest
from tests.certs import self_signed

from gpuwatch.model.errors import WireError
from gpuwatch.wire.kept import KeptConnection
from gpuwatch.wire.tls import Trust

PATIENCE_SECONDS = 50.0


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_request_under_way_fails_at_once_and_is_not_sent_again(tmp_path, scheme):
    pair = self_signed(tmp_path, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    errors = []

    def ask():
        try:
            connection.post("/push", b"{}", dict, 10 * PATIENCE_SECONDS)
        except WireError as error:
            errors.append(str(error))

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_SECONDS)
        connection = KeptConnection(f"{scheme}://127.0.0.1:{server.getsockname()[1]}", program="gpuwatch hub", trust=Trust(pair.pin))
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asked, _ = server.accept()
        asked.settimeout(PATIENCE_SECONDS)
        if scheme == "https":
            asked = context.wrap_socket(asked, server_side=True)
        assert asked.recv(65536).startswith(b"POST /push ")
        connection.close()
        asking.join(PATIENCE_SECONDS)
        assert ["it was ended here" in error for error in errors] == [True]
        server.settimeout(0.0)
        with pytest.raises(BlockingIOError):
            server.accept()
        asked.close()
