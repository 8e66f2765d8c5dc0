"""A certificate for the occasion, by an authority of its own."""

import ssl


def issue_certificate(host: str) -> tuple[ssl.SSLContext, bytes]:
    """Return what a server needs to serve TLS as this host and on loopback, and its authority's certificate.

    Raises:
        ImportError: the library that makes certificates is not installed.
        ValueError: no certificate can name the host.

    """
    import trustme  # noqa: PLC0415 - only who wants TLS needs it

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    authority.issue_cert(*dict.fromkeys([host, "127.0.0.1", "::1", "localhost"])).configure_cert(context)
    return context, authority.cert_pem.bytes()
