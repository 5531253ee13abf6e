"""Made-up videos and a made-up camera, whose frames can be told apart by their brightness."""

import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when the first video is opened

STEP = 8  # of brightness, from a frame to the next


def write_video(path, frames=12, *, size=(48, 64), codec="FFV1", rate=25.0, images=None):
    """Write a video; by default frame k is gray 8 k, and lossless."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if images is None:
        images = [np.full((*size, 3), STEP * number % 256, np.uint8) for number in range(frames)]
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), rate, images[0].shape[1::-1]
    )
    assert writer.isOpened()
    for image in images:
        writer.write(np.ascontiguousarray(image[..., ::-1]))
    writer.release()
    return path


def number_of(pixels):
    """Which frame of such a video this is."""
    return round(float(np.mean(pixels)) / STEP)


def cut_off(path, share=0.5):
    """Cut the end of a file off, as when a recording breaks."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


class MjpegServer:
    """A camera that sends JPEGs over HTTP, and can be cut off and come back at its address.

    Every connection is closed after `frames` frames. Frame k of a connection is gray 8 k.
    """

    def __init__(self, frames=6, pause=0.02, size=(48, 64)):
        self.frames, self.pause, self.size = frames, pause, size
        self.connections = 0
        self.sent = 0
        self._server = self._start(0)
        self.port = self._server.server_port

    @property
    def address(self):
        return f"http://admin:s3cret@127.0.0.1:{self.port}/hidden?token=s3cret"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut_off()

    def cut_off(self):
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def come_back(self):
        self._server = self._start(self.port)

    def _start(self, port):
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                camera.send(self.wfile)

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    def send(self, file):
        self.connections += 1
        for number in range(self.frames):
            pixels = np.full((*self.size, 3), STEP * number, np.uint8)
            jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            try:
                file.write(head.encode() + jpeg + b"\r\n")
                file.flush()
            except OSError:  # nobody listens any more
                return
            self.sent += 1
            time.sleep(self.pause)
