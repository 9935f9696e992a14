"""A cluster of Ray on this machine: two nodes, each with processes of its own. Says its address, then kills the second
node (kill -9, all of it) when told so, and ends with its standard input:

    python -m tests.ray_nodes
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster


def main() -> None:
    node = {
        "num_cpus": 3,
        "include_dashboard": False,
        "node_ip_address": "127.0.0.2",
        "object_store_memory": 100 * 2**20,
    }
    cluster = Cluster(initialize_head=True, head_node_args=node)
    second = cluster.add_node(**{name: value for name, value in node.items() if name != "include_dashboard"})
    sys.stdout.write(f"{cluster.address}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        if line.strip() == "kill":
            cluster.remove_node(second, allow_graceful=False)
            sys.stdout.write("killed\n")
            sys.stdout.flush()
    cluster.shutdown()


if __name__ == "__main__":
    main()
