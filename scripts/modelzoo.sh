# shellcheck shell=bash
# What the scripts in ModelZoo's conventions share; sourced by them.

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(dirname "$scripts")
called_from=$PWD

export ASCEND_DEVICE_ID=${ASCEND_DEVICE_ID:-0}
export JOB_ID=${JOB_ID:-10087}
export ASCEND_GLOBAL_LOG_LEVEL=${ASCEND_GLOBAL_LOG_LEVEL:-3}

# The paper's network and schedule, as the original code's command line gives them; what is
# asked of the launcher beside them goes before them, --recipe in their place.
schedule=(
    --dataset c10 --fetch sparse --depth 100 --growth_rate 24
    --batch_size 64 --drop_1 150 --drop_2 225 --max_epoch 300
)
epochs= # in place of the schedule's
data_path=
ckpt_path=
output=$checkout/test/output/$ASCEND_DEVICE_ID
npu_flags=()      # ModelZoo's own flags, as they go on to main_npu.py
launcher_flags=() # all that is not ModelZoo's

usage() {
    cat <<USAGE
usage: bash $(basename "$0") --data_path=DIR [arguments]
  --data_path=DIR         the data set
  --ckpt_path=CHECKPOINT  take the weights from there
  --output_path=DIR       where logs and the run directory go
                          [test/output/\$ASCEND_DEVICE_ID in the checkout]
  --precision_mode=MODE   as main_npu.py; so are the next four
  --over_dump=True|False, --data_dump_flag=True|False, --data_dump_step=STEPS,
  --profiling=True|False
  -h, --help              this text
Other arguments go on to the launcher: main_$PLATFORM.py --help lists them.
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
    for argument in "$@"; do
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

# A path as the caller meant it; nothing stays nothing.
absolute() {
    case $1 in
        "" | /*) echo "$1" ;;
        *) echo "$called_from/$1" ;;
    esac
}

# Whether what the launcher is asked for is to be read from data_path.
needs_data() {
    local flags=" ${launcher_flags[*]-} "
    case ${flags//=/ } in
        *" --fake "* | *" --recipe digits "* | *" --dataset digits "* | *" --dataset_dir "* | *" --resume "*)
            return 1
            ;;
    esac
}

# value_of FLAG: what the launcher's arguments give it, `--flag value` or `--flag=value`.
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
    echo "$found"
}

# choose_run: the directory of the run, and all arguments of its launcher in `arguments`.
choose_run() {
    local name log_dir
    run_directory=$(value_of --resume)
    arguments=()
    if [ -z "$run_directory" ]; then
        if [ -z "$(value_of --recipe)" ]; then
            arguments+=("${schedule[@]}")
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
        name=$(value_of --name)
        log_dir=$(value_of --log_dir)
        : "${name:=run-$(date +%Y%m%d-%H%M%S)-$$}" "${log_dir:=$output}"
        run_directory=$log_dir/$name
        arguments+=(--log_dir "$log_dir" --name "$name")
    fi
    if [ "$PLATFORM" = npu ]; then
        arguments+=(${npu_flags[@]+"${npu_flags[@]}"})
    elif [ "${#npu_flags[@]}" -gt 0 ]; then
        echo "[Warning] without effect on a GPU, which computes in float32: ${npu_flags[*]}"
    fi
    arguments+=(${launcher_flags[@]+"${launcher_flags[@]}"})
}

# train_and_report CASE: train, then print and keep ModelZoo's figures; CASE is perf or acc.
train_and_report() {
    local start
    start=$(date +%s)
    choose_run
    python3 "$checkout/main_$PLATFORM.py" "${arguments[@]}" 2>&1 |
        tee "$output/train_$ASCEND_DEVICE_ID.log"
    python3 "$scripts/modelzoo_report.py" "$run_directory" --case "$1" --out "$output" \
        --seconds "$(($(date +%s) - start))"
}

# on_screen COMMAND ...: run it, with all it prints in train_output.log too.
on_screen() {
    mkdir -p "$output"
    "$@" 2>&1 | tee "$output/train_output.log"
}

