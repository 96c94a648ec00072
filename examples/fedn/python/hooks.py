"""Runs FEDn's own function service, as its serve() does but on a port of one's own.

    hooks.py --port 12081
"""

import argparse
from concurrent import futures

import fedn.network.grpc.fedn_pb2_grpc as rpc
import grpc
from fedn.network.combiner.hooks.hooks import FunctionServiceServicer


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--port", type=int, required=True)
    port = p.parse_args().port
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=100),
        options=[("grpc.max_send_message_length", 1 << 30), ("grpc.max_receive_message_length", -1)],
    )
    rpc.add_FunctionServiceServicer_to_server(FunctionServiceServicer(), server)
    if not server.add_insecure_port(f"127.0.0.1:{port}"):
        raise SystemExit(f"hooks.py: port {port} is taken")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
