"""An OTLP receiver: decodes what it is sent with the generated code of the protocol and writes each export
as a line of JSON. Arguments: port, file for the exports, answer (200, 503, or 0 for none at all)."""

import http.server
import json
import sys
import threading
import time

from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service

PORT, EXPORTS, ANSWER = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
LOCK = threading.Lock()


def attributes(pairs):
    return {pair.key: pair.value.string_value for pair in pairs}


def point(kind, it):
    read = {"attributes": attributes(it.attributes), "start": it.start_time_unix_nano}
    if kind == "histogram":
        read.update(count=it.count, sum=it.sum, buckets=list(it.bucket_counts), edges=list(it.explicit_bounds))
    else:
        read["value"] = it.as_int if it.WhichOneof("value") == "as_int" else it.as_double
    return read


def decoded(body):
    request = service.ExportMetricsServiceRequest()
    request.ParseFromString(body)
    for resource in request.resource_metrics:
        metrics = []
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                data = getattr(metric, kind)
                metrics.append({
                    "name": metric.name, "unit": metric.unit, "kind": kind, "help": metric.description,
                    "cumulative": getattr(data, "aggregation_temporality", 2) == 2,
                    "monotonic": getattr(data, "is_monotonic", None),
                    "points": [point(kind, it) for it in data.data_points],
                })
        yield {"resource": attributes(resource.resource.attributes), "metrics": metrics}


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if ANSWER == 0:
            time.sleep(3600)
        right = self.path == "/v1/metrics" and self.headers["Content-Type"] == "application/x-protobuf"
        with LOCK, open(EXPORTS, "a") as file:
            for export in decoded(body):
                file.write(json.dumps(export) + "\n")
        self.send_response(ANSWER if right else 400)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Receiver).serve_forever()
