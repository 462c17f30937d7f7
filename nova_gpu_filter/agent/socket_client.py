# SPDX-License-Identifier: Apache-2.0

"""Asks the daemon over its socket.

A command imports nothing of the daemon for it.
"""

import json
import socket
from typing import Any

from nova_gpu_filter import files
from nova_gpu_filter.agent import answers
from nova_gpu_filter.agent import errors


def ask(path: str, command: str, **request: Any) -> answers.Answer:
    """Ask the daemon.

    :returns: an answer with all that the module ``answers`` says of it.
    :raises NoAgent: it does not answer.
    :raises AgentError: it says why it does not do it, or its answer is none
        to this command.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(answers.SECONDS)
            connection.connect(path)
            line = json.dumps({"command": command, **request})
            connection.sendall(line.encode() + b"\n")
            with connection.makefile("rb") as file:
                answer = json.loads(file.readline(files.DOCUMENT_BYTES))
    except OSError as error:
        raise errors.NoAgent(
            path=path, error=error.strerror or error
        ) from error
    except (ValueError, RecursionError) as error:
        raise errors.NoAgent(path=path, error="it hung up") from error
    if isinstance(answer, dict) and "error" in answer:
        raise errors.AgentError(reason=answer["error"])
    try:
        answers.check(command, answer)
    except ValueError as error:
        raise errors.StrangeAnswer(path=path, error=error) from error
    found: answers.Answer = answer
    return found
