"""Which tests of ceph/s3-tests count, and which are apart and why.

By the suite's own markers, so that a newer checkout needs no new list.
"""

import inspect

# Run, and compared with expected-failures.txt.
COUNTED_FILES = ("test_s3.py", "test_headers.py")

# Marker: the group that its tests form. The first that fits names it.
APART = {
    "bucket_logging": "bucket logging",
    "bucket_logging_cleanup": "bucket logging",
    "fails_without_logging_rollover": "bucket logging",
    "cloud_transition": "cloud tiers",
    "cloud_restore": "cloud tiers",
    "target_by_bucket": "cloud tiers",
    "s3select": "S3 Select",
    "iam_account": "other services (IAM, STS, SNS)",
    "iam_user": "other services (IAM, STS, SNS)",
    "iam_role": "other services (IAM, STS, SNS)",
    "iam_tenant": "other services (IAM, STS, SNS)",
    "sns": "other services (IAM, STS, SNS)",
    "test_of_sts": "other services (IAM, STS, SNS)",
    "webidentity_test": "other services (IAM, STS, SNS)",
    "fails_on_aws": "fails on AWS itself",
}

# Tests with these markers are apart where they wait for a lifecycle's days to pass.
TIMED = ("lifecycle_expiration", "lifecycle_transition")
WAITS = ("sleep(", "verify_lifecycle_expiration_noncur_tags(", "wait_interval_list_object_versions(")
TIMED_GROUP = "lifecycle timing"

# These need an account without any bucket: they run before the others, alone.
ALONE = ("test_list_buckets_paginated",)

COUNTED = "counted"
OTHER_FILE = "other files of the suite"


def group(item) -> str:
    """The group of a pytest item: COUNTED, or why it is apart."""
    markers = {mark.name for mark in item.iter_markers()}
    for marker, name in APART.items():
        if marker in markers:
            return name
    if item.path.name not in COUNTED_FILES:
        return OTHER_FILE
    if markers.intersection(TIMED):
        source = inspect.getsource(item.function)
        # The parametrised transitions wait in a helper.
        if any(word in source for word in WAITS) or "_test_lifecycle_transition(" in source:
            return TIMED_GROUP
    return COUNTED


def alone(item) -> bool:
    return item.originalname in ALONE


def name(item) -> str:
    """Short and stable: the file and what pytest calls the test."""
    return f"{item.path.name}::{item.name}"
