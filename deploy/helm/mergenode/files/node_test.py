"""What `helm test` runs in the image: probes, metrics and status through the Service."""

import json
import os
import urllib.request


def get(path):
    with urllib.request.urlopen(os.environ["NODE"] + path, timeout=20) as answer:  # noqa: S310
        return answer.read().decode()


for path in ("/startupz", "/livez", "/readyz"):
    print(path, get(path))
assert "mergenode_build_info" in get("/metrics"), "no metrics of mergenode"
status = json.loads(get("/api/v1/status"))
print(status["node"], "version", status["head"]["version"], "contributions", status["head"]["count"])
