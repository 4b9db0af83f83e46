# Runs under busybox sh, natively and in the guests alike, from a program that is /tmp/integer. Prints "name microseconds" lines.

now() { echo | ts %.s | tr -d '. '; }  # microseconds

measure() {  # measure NAME COMMAND...
	name=$1
	shift
	start=$(now)
	"$@" >/dev/null || { echo "$name failed"; return; }
	echo "$name $(($(now) - start))"
}

hash() { head -c 4000000 /dev/zero | sha256sum; }
compress() { seq 1 50000 | gzip -c; }
script() { awk 'BEGIN { for (i = 0; i < 100000; i++) { a[i % 997] = a[(i * 7) % 997] + i % 3 } print a[5] }'; }
sorting() { seq 1 15000 | awk '{ print ($1 * 7919) % 30011 }' | sort -n | tail -n 1; }
fork() { i=0; while [ $i -lt 150 ]; do (:); i=$((i + 1)); done; }
exec_() { i=0; while [ $i -lt 50 ]; do /bin/busybox true; i=$((i + 1)); done; }
syscalls() { dd if=/dev/zero of=/dev/null bs=1 count=50000 2>/dev/null; }

measure integer /tmp/integer
measure sha256 hash
measure gzip compress
measure awk script
measure sort sorting
measure fork fork
measure fork-exec exec_
measure system-calls syscalls
