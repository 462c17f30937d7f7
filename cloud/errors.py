# SPDX-License-Identifier: Apache-2.0

"""What can be wrong with a cloud, in words for the terminal."""


class CloudError(Exception):
    """Something that the cloud needs did not happen; the text says what."""


class UnavailableError(CloudError):
    """This machine cannot run the cloud at all."""
