# shellcheck shell=bash
# lib.sh: what the scripts of tests/vm have in common; bash sources it.
#
# The cache is ${XDG_CACHE_HOME:-~/.cache}/rmapviz.  What is in it stays as it
# is, however the mirror moves on, until make clean-cache.
#
# RMAPVIZ_MIRROR and RMAPVIZ_SECURITY_MIRROR name other Debian mirrors.

# shellcheck disable=SC2034 # used by those who source it
vm=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rmapviz
mirror=${RMAPVIZ_MIRROR:-http://deb.debian.org/debian}
security=${RMAPVIZ_SECURITY_MIRROR:-http://deb.debian.org/debian-security}
program=${0##*/}

# ---------------------------------------------------------------- messages --

say() {
	echo "$program: $*" >&2
}

die() {
	say "$*"
	exit 1
}

refuse() {
	say "$*"
	exit 2
}

usage() { # ARGUMENTS
	echo "usage: $program $*" >&2
	exit 2
}

# While standard input stays open, say now and then what a log says last.
progress() { # WHAT LOG
	local seconds=0
	# the status of read is above 128 when the time is over
	while read -r -t 30 || [ $? -gt 128 ]; do
		seconds=$((seconds + 30))
		say "$1: $seconds s: $(tail -c 400 "$2" | tr '\r' '\n' |
			tail -n 1 | cut -c -60)"
	done
}

# --------------------------------------------------------------- the cache --

# Nobody else gets it until this shell ends.
lock() { # FILE WHAT
	exec 9>"$1"
	flock --nonblock 9 && return
	say "waiting for another run, which makes $2"
	flock 9
}

# A run that was killed could not remove what it had begun: it belongs to
# nobody if its lock is free.
remove_leftovers() {
	local new
	for new in "$cache"/*.new; do
		[ ! -d "$new" ] || {
			flock --nonblock 8 && rm -rf "$new"
		} 8>"${new%.new}.lock" || :
	done
}

make_in_cache() { # DIR WHAT COST COMMAND...
	local made=$1 what=$2 cost=$3 log=$1.log alive ticker status
	shift 3
	remove_leftovers
	say "making $what (one time; $cost)"
	unfinished=$made.new
	rm -rf "$unfinished"
	trap 'rm -rf "$unfinished"' EXIT
	mkdir "$unfinished"
	: >"$log"
	exec {alive}> >(progress "$what" "$log" 9>&-)
	ticker=$!
	# set -e counts in a shell of its own, which nobody asks for its status
	set +e
	(set -e && "$@" "$unfinished") >"$log" 2>&1
	status=$?
	set -e
	exec {alive}>&-
	wait "$ticker"
	[ $status -eq 0 ] || {
		grep -E -A 3 '^E|error:|^make.*\*\*\*' "$log" >&2 ||
			tail "$log" >&2
		die "cannot make $what; all of it in $log"
	}
	mv -T "$unfinished" "$made"
}

# Print the path of a directory in the cache.  If it is not there, COMMAND...
# DIR makes it in an empty DIR, which gets its name when all has gone well.
once() { # NAME WHAT COST COMMAND...
	local made=$cache/$1
	shift
	if [ ! -d "$made" ]; then
		mkdir -p "$cache"
		lock "$made.lock" "$1"
		[ -d "$made" ] || make_in_cache "$made" "$@"
		exec 9>&-
	fi
	echo "$made"
}

# ------------------------------------------------------------ Debian roots --

# Let suites be those of a kernel: the one with the compiler, then another if
# the kernel is from there.
find_suites() { # SERIES
	read -r -a suites < <(sed -n "s/^${1//./\\.}[[:space:]]\+//p" \
		"$vm/../kernels") || refuse "$1 is not in tests/kernels"
}

sources() { # SUITE [EXTRA-SUITE]
	echo "deb $mirror $1 main"
	if [ "$1" != sid ]; then
		echo "deb $mirror $1-updates main"
		echo "deb $security $1-security main"
	fi
	if [ -n "${2:-}" ]; then
		echo "deb $mirror $2 main"
	fi
}

root_options=(--variant=minbase
	--aptopt='Acquire::Check-Valid-Until "false"'
	--dpkgopt='path-exclude=/usr/share/doc/*'
	--dpkgopt='path-exclude=/usr/share/man/*'
	--dpkgopt='path-exclude=/usr/share/locale/*')

# Raise it when make_root() comes to make something else of the same options
# and arguments, and everybody gets new roots.
root_recipe=1

root_key() { # SUITES PACKAGES HOOK [WHAT-ELSE-MATTERS]
	printf '%s\n' "$root_recipe" "${root_options[@]}" "$@" |
		sha256sum | head -c 12
}

# The lines of scripts that matter to a key.
code() { # FILE...
	sed '/^[[:space:]]*\(#\|$\)/d' "$@"
}

# A hook is shell, with the root as $1; it runs when all is installed.
make_root() { # SUITES PACKAGES HOOK DIR
	local packages=$2 hook=$3 dir=$4 options=("${root_options[@]}") pin suites
	read -r -a suites <<<"$1"
	if [ ${#suites[@]} -gt 1 ]; then
		pin="Package: linux-*\nPin: release n=${suites[1]}\nPin-Priority: 990\n"
		options+=(--setup-hook="printf '$pin' >\"\$1/etc/apt/preferences.d/kernel\"")
	fi
	# where a command in it finds its files (see in-root)
	mkdir "$dir/src"
	# By way of a tar stream, so that every file belongs to the caller and
	# can be removed by the caller, whichever mode mmdebstrap has to use.
	sources "${suites[@]}" |
		INITRD=No mmdebstrap "${options[@]}" --include="$packages" \
			--customize-hook="$hook" "${suites[0]}" - - |
		tar -x --no-same-owner --exclude='./dev/*' -C "$dir"
	chmod 755 "$dir"
}
