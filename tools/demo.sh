#!/usr/bin/env bash
# make demo: three devices on this machine answer one question, layer by layer.
#   demo.sh BUILD
# Leaves the devices running when a terminal is attached, stops them otherwise. A call while an
# earlier demo runs stops that one first (only the processes that it started itself).
set -euo pipefail
cd "$(dirname "$0")/.."
shoal=$PWD/${1:-build}/src/cli/shoal
state=${XDG_CACHE_HOME:-$HOME/.cache}/shoal/demo
name=SmolLM2-135M-Instruct.Q4_1
question='In one sentence: why do fish swim in schools?'
homes=$state/homes
mkdir -p "$state"

# Ends the devices whose numbers are in the list, if they are still ours.
stop_devices() {
    local pid
    [[ -f $state/pids ]] || return 0
    while read -r pid; do
        if grep -qs "$homes" "/proc/$pid/cmdline"; then kill "$pid" 2>/dev/null || true; fi
    done <"$state/pids"
    rm -f "$state/pids"
}

free_port() { # the first of $1, $1+10, ... where nobody listens, nor on the next one
    local port=$1
    while (: </dev/tcp/127.0.0.1/"$port") 2>/dev/null ||
        (: </dev/tcp/127.0.0.1/$((port + 1))) 2>/dev/null; do
        port=$((port + 10))
    done
    echo "$port"
}

start_device() { # name port options...
    local device=$1 port=$2
    shift 2
    "$shoal" up --home "$homes/$device" --models "$(dirname "$model")" --port "$port" \
        --name "$device" --threads 1 "$@" >"$state/$device.log" 2>&1 </dev/null &
    echo $! >>"$state/pids"
    disown
}

wait_for() { # seconds what command...
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS > end)); then
            echo "demo: $what did not happen; the log of the first device says:" >&2
            tail -n 15 "$state/reef.log" >&2
            exit 1
        fi
        sleep 0.1
    done
}

serving() { "$shoal" status --json --url "$url" | grep -q '"state": *"serving"'; }
loaded() { ! "$shoal" status --json --url "$url" | grep -qE '"weight_bytes": *0[,}]'; }
answers() { curl -fs -m 2 "$url/health"; }

# The text of each event, as it arrives.
show_stream() {
    local line text any=no
    while IFS= read -r line; do
        [[ $line =~ \"content\":\"((\\.|[^\"\\])*)\" ]] || continue
        text=${BASH_REMATCH[1]}
        text=${text//\\\"/\"}
        text=${text//%/%%}
        any=yes
        printf "$text"
    done
    echo
    [[ $any = yes ]] || { echo "demo: no answer came" >&2 && exit 1; }
}

echo "== model"
model=$(tools/fetch_model.sh smollm2)
echo "$model"

stop_devices
rm -rf "$homes"
keep=no
if [[ -t 0 && -t 1 ]]; then keep=yes; fi
trap '[[ ${done:-no} = yes && $keep = yes ]] || stop_devices' EXIT

echo "== three devices on this machine, one pipeline of 12, 10 and 8 layers"
port=$(free_port 8420)
url=http://127.0.0.1:$port
start_device reef "$port" --model "$name" --split 12@1/10@1/8@1
wait_for 20 "the first device's endpoint" answers
for device in kelp cove; do
    start_device "$device" "$(free_port $((port + 10)))" --join "127.0.0.1:$((port + 1))" \
        --invite "$("$shoal" invite --home "$homes/reef" 2>/dev/null | tail -n 1)"
    wait_for 20 "$device joining" grep -q "$device (.*joined" "$state/reef.log"
done
wait_for 60 "placing the model" serving
wait_for 10 "a report of all devices" loaded
"$shoal" status --url "$url"

echo
echo "== \$ curl $url/v1/chat/completions   # \"$question\""
curl -sN -m 120 "$url/v1/chat/completions" -H 'Content-Type: application/json' -d "{
  \"model\": \"$name\", \"stream\": true, \"max_tokens\": 80, \"temperature\": 0,
  \"messages\": [{\"role\": \"user\", \"content\": \"$question\"}]}" | show_stream

echo
echo "== \$ shoal run $name --url $url \"Name three sea animals.\""
"$shoal" run "$name" --url "$url" --temperature 0 --max-tokens 60 "Name three sea animals."

echo
echo "endpoint   $url/v1   (base URL for any OpenAI client; any key)"
if [[ $keep = yes ]]; then
    done=yes
    echo "running    shoal status --url $url; logs in $state"
    echo "to stop    kill $(tr '\n' ' ' <"$state/pids")"
else
    echo "stopped    no terminal is attached; run make demo in one to keep the devices running"
fi
