"""Reads frames of each camera with OpenCV, by URL and by a pipeline, at the same time."""

import sys

import cv2

print("opencv", cv2.__version__, flush=True)
cameras = [cv2.VideoCapture(url, cv2.CAP_GSTREAMER) for url in sys.argv[1:]]
line = "rtspsrc location=%s latency=0 ! rtph264depay ! decodebin ! videoconvert ! appsink"
cameras.append(cv2.VideoCapture(line % sys.argv[1], cv2.CAP_GSTREAMER))
for camera in cameras:
    print("frames", sum(camera.read()[0] for _ in range(10)), flush=True)
