#!/usr/bin/python
"""Stands in for MinIO where its image cannot be had: `minio server FOLDER --address :PORT`, moto behind it. It keeps nothing on disk."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from typing import Any

# As MinIO by default: the first part of the host is no bucket.
os.environ["S3_IGNORE_SUBDOMAIN_BUCKETNAME"] = "true"
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

arguments = argparse.ArgumentParser()
arguments.add_argument("command", choices=["server"])
arguments.add_argument("folder")
arguments.add_argument("--address", default=":9000")
host, _, port = arguments.parse_args().address.rpartition(":")
s3 = DomainDispatcherApplication(create_backend_app)


def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """MinIO's health checks, and S3."""
    if environ["PATH_INFO"].startswith("/minio/health/"):
        start_response("200 OK", [])
        return [b""]
    return s3(environ, start_response)


run_simple(host or "0.0.0.0", int(port), answer, threaded=True)
