# The install for judging videos (no TensorFlow, no Spark), as a user without rights.
#   docker build -t deepfake-detect .
#   docker run --rm --network none -v "$PWD/videos:/videos:ro" deepfake-detect predict /videos
#   docker run --rm --network none -v "$PWD/videos:/videos:ro" -v "$PWD/out:/out" deepfake-detect predict /videos --csv /out/verdicts.csv
# (/out must be writable for uid 1000.) Not tried: where this was written there was no Docker; the pip line is what a test runs.
FROM python:3.12-slim
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE THIRD_PARTY.md predict.py serve.py evaluate.py ./
COPY models/detector.onnx models/rim.onnx models/detector.json models/README.md models/
COPY deepfake_detection deepfake_detection
RUN pip install --no-cache-dir -c constraints.txt . && useradd --create-home --uid 1000 judge && rm -rf /src/*
USER judge
WORKDIR /home/judge
ENTRYPOINT ["deepfake-detect"]
