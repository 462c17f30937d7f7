# SPDX-License-Identifier: Apache-2.0

"""The story: 2016, the upgrade in place, today, topology, divided GPUs."""

from collections.abc import Collection
import importlib.metadata
import logging

from demo import chapter_2016
from demo import chapter_divided
from demo import chapter_h100
from demo import chapter_topology
from demo import chapter_upgrade
from demo import cloud as embedded
from demo import cloud_reader
from demo import record

CHAPTERS = (1, 2, 3, 4, 5)
_PACKAGES = ("nova", "openstack-placement", "nova-gpu-filter")


def play(
    chapters: Collection[int] = CHAPTERS,
    listener: record.Listener | None = None,
    log_handler: logging.Handler | None = None,
) -> record.Story:
    """Tell chapters, in their order; each can be told alone.

    :param listener: is told of each step as it goes.
    :param log_handler: gets what the services log, from its level up.
    :returns: all that was done, shown and expected.
    """
    story = record.Story(
        versions={name: _version(name) for name in _PACKAGES},
        listener=listener or record.Listener(),
    )
    if 1 in chapters or 2 in chapters:
        cloud = embedded.EmbeddedCloud(
            chapter_2016.CONF, log_handler=log_handler
        )
        try:
            servers: list[cloud_reader.Server] = []
            if 1 in chapters:
                servers = chapter_2016.play(story, cloud)
            # An abandoned chapter 1 leaves no cloud to go on with.
            if 2 in chapters and (servers or 1 not in chapters):
                chapter_upgrade.play(story, cloud, servers)
        finally:
            cloud.stop()
    if 3 in chapters:
        cloud = embedded.EmbeddedCloud(
            chapter_h100.CONF, log_handler=log_handler
        )
        try:
            chapter_h100.play(story, cloud)
        finally:
            cloud.stop()
    for number, chapter in (4, chapter_topology), (5, chapter_divided):
        if number not in chapters:
            continue
        cloud = embedded.EmbeddedCloud(
            chapter.CONF, log_handler=log_handler, extend_placement=True
        )
        try:
            chapter.play(story, cloud)
        finally:
            cloud.stop()
    return story


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
