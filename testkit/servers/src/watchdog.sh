# Owns a server and its folder: obeys the orders on standard input, and at the end of that input kills the server and removes
# the folder. The input is a pipe that the test's process holds: it ends when that process does, however it does.
# The argument is the folder. Orders, one a line: `new` and `=WORD`s make a command line, `start` runs it and answers its
# process, `ended` waits for its end and answers its status.
folder=$1
exec 2>>"$folder/watchdog.log"
trap : INT TERM HUP
set --
pid=
status=0

# an ended server stays a zombie until it is waited for, and PostgreSQL takes that for a running one
reap() {
    if [ -n "$pid" ]; then
        wait "$pid"
        status=$?
    fi
    pid=
}

children() {
    for file in /proc/[0-9]*/stat; do
        { read -r line <"$file"; } 2>/dev/null || continue
        fields=${line##*) }
        fields=${fields#* }
        if [ "${fields%% *}" = "$1" ]; then echo "${line%% *}"; fi
    done
}

# neither gone nor a zombie, which an orphan stays for a while
is_alive() {
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    fields=${line##*) }
    [ "${fields%% *}" != Z ]
}

while IFS= read -r order; do
    case $order in
    new) set -- ;;
    =*) set -- "$@" "${order#=}" ;;
    start)
        reap
        setsid "$@" </dev/null >>"$folder/server.log" 2>&1 &
        pid=$!
        echo "$pid"
        ;;
    ended)
        reap
        echo "$status"
        ;;
    esac
done

if [ -n "$pid" ]; then
    kill -STOP "$pid"
    # PostgreSQL's children lead groups of their own
    family="$pid $(children "$pid")"
    kill -KILL -- "-$pid"
    for member in $family; do kill -KILL "$member"; done
    wait "$pid"
    patience=100
    for member in $family; do
        while [ $patience -gt 0 ] && is_alive "$member"; do
            patience=$((patience - 1))
            sleep 0.05
        done
    done
fi
# PostgreSQL's lock names a segment of shared memory, which outlives a killed server
if [ -f "$folder/data/postmaster.pid" ]; then ipcrm -m "$(sed -n '7s/.* //p' "$folder/data/postmaster.pid")"; fi
rm -rf "$folder"
