# SPDX-License-Identifier: Apache-2.0

"""``python -S -E client.py PLACE -W ignore SCRIPT...``.

Has the server at PLACE run a script here, and exits as the script does.
"""

import json
import os
import socket
import sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    request = json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)])
    socket.send_fds(server, [b"x"], [0, 1, 2])
    server.sendall(request.encode() + b"\n")
    sys.exit(int(server.makefile().readline() or 70))
