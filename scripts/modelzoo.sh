# shellcheck shell=bash
# What the scripts that follow ModelZoo's conventions share; sourced by them.

unset CDPATH # if it is set, cd prints where it goes
scripts=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
checkout=$(dirname "$scripts")
called_from=$PWD

export ASCEND_DEVICE_ID=${ASCEND_DEVICE_ID:-0}
export JOB_ID=${JOB_ID:-10087}
export ASCEND_GLOBAL_LOG_LEVEL=${ASCEND_GLOBAL_LOG_LEVEL:-3}

# The paper's network and schedule, as in the original code's command line. Other arguments of the
# launcher override them; --recipe replaces them.
schedule=(
    --dataset c10 --fetch sparse --depth 100 --growth_rate 24
    --batch_size 64 --drop_1 150 --drop_2 225 --max_epoch 300
)
epochs=        # replaces those of the schedule or of a recipe
of_devices=()  # batch size and learning rate, if they follow from the number of devices
data_path=
ckpt_path=
output=$checkout/test/output/$ASCEND_DEVICE_ID
npu_flags=()      # ModelZoo's own flags, as they are passed on to main_npu.py
launcher_flags=() # all flags that are not ModelZoo's

# Train on one device, whatever the environment says of several.
one_device() {
    export RANK_SIZE=1 RANK_ID=0
    unset CM_CHIEF_IP CM_CHIEF_PORT CM_CHIEF_DEVICE CM_WORKER_SIZE CM_WORKER_IP
}

usage() {
    cat <<USAGE
usage: bash $(basename "$0") --data_path=DIR [arguments]
  --data_path=DIR         the data set
  --ckpt_path=CHECKPOINT  take the weights from it
  --output_path=DIR       folder for logs and the run directory
                          [test/output/\$ASCEND_DEVICE_ID in the checkout]
  --precision_mode=MODE   as in main_npu.py, like the next four
  --over_dump=True|False, --data_dump_flag=True|False, --data_dump_step=STEPS,
  --profiling=True|False
  -h, --help              this text
A value may also follow its argument as a word of its own: --data_path DIR.
Other arguments are passed on to the launcher: main_$PLATFORM.py --help lists them.
PLATFORM=gpu or PLATFORM=npu chooses the launcher.
USAGE
}

# read_arguments "$@": fill the variables above.
read_arguments() {
    local argument
    case $PLATFORM in
        gpu | npu) ;;
        *)
            echo "error: PLATFORM is $PLATFORM; accepted: gpu, npu" >&2
            exit 2
            ;;
    esac
    if ! [[ $ASCEND_DEVICE_ID =~ ^[0-9]+$ ]]; then
        echo "error: ASCEND_DEVICE_ID is $ASCEND_DEVICE_ID; accepted: a whole number" >&2
        exit 2
    fi
    while [ "$#" -gt 0 ]; do
        argument=$(underscored "$1")
        shift
        # A value that is a word of its own is joined to its argument.
        case $argument in
            --data_path | --ckpt_path | --output_path | --precision_mode | --data_dump_step)
                if [ "$#" -eq 0 ] || [[ $1 == --* ]]; then
                    echo "error: $argument has no value; accepted: $argument=VALUE" >&2
                    exit 2
                fi
                argument+="=$1"
                shift
                ;;
            --over_dump | --data_dump_flag | --profiling)
                if [ "$#" -gt 0 ] && [[ $1 != -* ]]; then
                    argument+="=$1"
                    shift
                fi
                ;;
        esac
        case $argument in
            -h | --help)
                usage
                exit 0
                ;;
            --data_path=*) data_path=$(absolute "${argument#*=}") ;;
            --ckpt_path=*) ckpt_path=$(absolute "${argument#*=}") ;;
            --output_path=*) output=$(absolute "${argument#*=}") ;;
            --precision_mode= | --over_dump= | --data_dump_flag= | --data_dump_step= | --profiling=) ;;
            --precision_mode=* | --over_dump=* | --data_dump_flag=* | --data_dump_step=* | --profiling=*)
                npu_flags+=("$argument")
                ;;
            --over_dump | --data_dump_flag | --profiling) npu_flags+=("$argument") ;;
            *) launcher_flags+=("$argument") ;;
        esac
    done
    if [ -z "$output" ]; then
        output=$checkout/test/output/$ASCEND_DEVICE_ID
    fi
    if [ -z "$data_path" ] && needs_data; then
        echo '[Error] para "data_path" must be confing'
        exit 1
    fi
}

# Print a flag with underscores: `--max-epoch=1` -> `--max_epoch=1`. The launchers accept either.
# Any other word is printed as it is.
underscored() {
    if [[ $1 != --* ]]; then
        printf '%s\n' "$1"
        return
    fi
    local flag=${1%%=*}
    flag=--${flag//-/_}
    flag=${flag/--__/--}
    case $1 in
        *=*) echo "$flag=${1#*=}" ;;
        *) echo "$flag" ;;
    esac
}

# Print a path as absolute, from where the script was called; an empty one stays empty. The shell
# leaves a `~` that follows `=` to us.
absolute() {
    case $1 in
        \~ | \~/*) echo "$HOME${1:1}" ;;
        "" | /*) echo "$1" ;;
        *) echo "$called_from/$1" ;;
    esac
}

# Succeed if the launcher needs the data set in data_path.
needs_data() {
    local flags=" ${launcher_flags[*]-} "
    case ${flags//=/ } in
        *" --fake "* | *" --recipe digits "* | *" --dataset digits "* | *" --dataset_dir "* | *" --resume "*)
            return 1
            ;;
    esac
}

# value_of FLAG: print its value in the launcher's arguments, `--flag value` or `--flag=value`.
value_of() {
    local flag=$1 found="" previous="" argument
    for argument in ${launcher_flags[@]+"${launcher_flags[@]}"}; do
        if [ "$previous" = "$flag" ]; then
            found=$argument
        fi
        case $argument in
            "$flag="*) found=${argument#*=} ;;
        esac
        previous=$argument
    done
    case $found in
        \~ | \~/*) echo "$HOME${found:1}" ;;
        *) echo "$found" ;;
    esac
}

# choose_run: set `run_directory`, and `arguments` to all arguments of the launcher.
choose_run() {
    local name log_dir
    run_directory=$(value_of --resume)
    if [ -n "$run_directory" ] && [ ! -d "$run_directory" ]; then # a checkpoint or a file in it
        run_directory=$(dirname "$run_directory")
    fi
    arguments=()
    if [ -z "$run_directory" ]; then
        if [ -z "$(value_of --recipe)" ]; then
            arguments+=("${schedule[@]}")
        fi
        arguments+=(${of_devices[@]+"${of_devices[@]}"})
        name=$(value_of --name)
        log_dir=$(value_of --log_dir)
        : "${name:=run-$(date +%Y%m%d-%H%M%S)-$$}" "${log_dir:=$output}"
        run_directory=$log_dir/$name
        arguments+=(--log_dir "$log_dir" --name "$name")
    fi
    if [ -n "$epochs" ]; then
        arguments+=(--max_epoch "$epochs")
    fi
    if [ -n "$data_path" ]; then
        arguments+=(--dataset_dir "$data_path")
    fi
    if [ -n "$ckpt_path" ]; then
        arguments+=(--load "$ckpt_path")
    fi
    if [ "$PLATFORM" = npu ]; then
        arguments+=(${npu_flags[@]+"${npu_flags[@]}"})
    elif [ "${#npu_flags[@]}" -gt 0 ]; then
        echo "[Warning] without effect on a GPU, which computes in float32: ${npu_flags[*]}"
    fi
    arguments+=(${launcher_flags[@]+"${launcher_flags[@]}"})
}

# on_screen COMMAND ...: run it, and write what it prints to train_output.log too.
on_screen() {
    mkdir -p "$output"
    # Give each job a process group of its own, to which signals can be passed on.
    set -m
    jobs_started=()
    trap 'signal_jobs INT' INT
    trap 'signal_jobs TERM' TERM
    trap finish EXIT
    exec > >(trap '' TERM && exec tee -i "$output/train_output.log") 2>&1
    screen=$!
    "$@"
}

# Whatever ends the script also ends its jobs; all that they print still gets to the screen.
finish() {
    local code=$?
    signal_jobs TERM
    at_end
    exec >&- 2>&-
    wait "$screen" || true
    exit "$code"
}

# What a script has to do however it ends; scripts override it.
at_end() { :; }

# start_job LOG COMMAND ...: run it in the background; its output goes to LOG and to the screen.
start_job() {
    local log=$1
    shift
    # At a SIGTERM, what runs takes its time to close its records, and says so: neither the shell
    # around it nor what it writes to ends before it does.
    (
        trap : TERM
        "$@" </dev/null 2>&1 | (trap '' TERM && exec tee -i "$log")
    ) &
    jobs_started+=("$!")
}

signal_jobs() {
    local job
    for job in ${jobs_started[@]+"${jobs_started[@]}"}; do
        kill -"$1" -- "-$job" 2>/dev/null || true
    done
}

# wait_for JOB: return its exit code; a signal that is passed on to it does not end the wait.
wait_for() {
    local code=0
    wait "$1" || code=$?
    while kill -0 "$1" 2>/dev/null; do
        code=0
        wait "$1" || code=$?
    done
    return "$code"
}

# train_and_report CASE: train, then print and keep ModelZoo's figures; CASE is perf or acc.
train_and_report() {
    local start
    start=$(date +%s)
    choose_run
    start_job "$output/train_$ASCEND_DEVICE_ID.log" \
        python3 "$checkout/main_$PLATFORM.py" "${arguments[@]}"
    wait_for "${jobs_started[0]}"
    report "$1" "$start"
}

# report CASE START: print and keep the figures of a run, unless nothing was trained.
report() {
    case " ${launcher_flags[*]-} " in
        *" --dry_run "* | *" --list_recipes "* | *" --help "*) return ;;
    esac
    python3 "$scripts/modelzoo_report.py" "$run_directory" --case "$1" --out "$output" \
        --seconds "$(($(date +%s) - $2))"
}
