#!/usr/bin/env bash
# Tries out a deployed Sickbay through port-forwards: health, one job to its end, metrics.
set -euo pipefail
forwards=()
trap 'kill "${forwards[@]}" 2>/dev/null || true' EXIT
forward() { kubectl port-forward "svc/$1" "$2:$2" >/dev/null & forwards+=($!); }
get() { curl --fail --silent --show-error --retry 20 --retry-connrefused --retry-delay 1 --max-time 10 "$@"; }

forward job-api 3000
forward control-plane 3002
echo "health";  get http://localhost:3000/health; echo; get http://localhost:3002/health; echo
job=$(get -X POST http://localhost:3000/jobs -H "Content-Type: application/json" \
  -d '{"jobType": "email", "payload": {"simulate": "ok", "from": "smoke test"}}')
echo "$job"
id=$(printf '%s' "$job" | sed -n 's/.*"jobId":"\([^"]*\)".*/\1/p')
test -n "$id"
for _ in $(seq 60); do
  state=$(get "http://localhost:3000/jobs/$id" | sed -n 's/.*"state":"\([A-Z]*\)".*/\1/p' || true)
  if [ "$state" = SUCCEEDED ]; then
    echo "job $id SUCCEEDED"
    get http://localhost:3002/metrics
    echo
    exit 0
  fi
  sleep 1
done
echo "job $id did not succeed within a minute; it is ${state:-unknown}" >&2
exit 1
