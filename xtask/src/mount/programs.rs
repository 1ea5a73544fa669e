//! The programs, as shell scripts in the mount. The last line that each prints says what was done.

/// A program to run.
#[derive(Debug)]
pub struct Program {
    pub name: &'static str,
    /// What has to be there.
    pub needs: &'static [&'static str],
    /// Bytes of its volume.
    pub size: &'static str,
    pub script: &'static str,
}

/// All of them.
pub const PROGRAMS: [Program; 9] = [
    Program {
        name: "git",
        needs: &["git"],
        size: "1G",
        script: r#"
            export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
            git clone -q --no-local "$S" clone
            cd clone
            git fsck --full --strict
            test -z "$(git status --porcelain)"
            git gc -q --aggressive
            git fsck --full
            test -z "$(git status --porcelain)"
            echo "cloned, $(git rev-list --all --count) commits, $(git ls-files | wc -l) files, fsck before and after gc"
        "#,
    },
    Program {
        name: "build",
        needs: &["git", "cargo"],
        size: "2G",
        script: r#"
            export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
            git clone -q --no-local "$S" clone
            cd clone
            CARGO_TARGET_DIR="$M/target" cargo build -q -p paxfs-format
            # What was built is not built again: times and contents are kept.
            CARGO_TARGET_DIR="$M/target" cargo build -p paxfs-format 2>&1 | tee "$W/again"
            ! grep -q Compiling "$W/again"
            echo "paxfs-format built, $(find "$M/target" -type f | wc -l) files, nothing to do the second time"
        "#,
    },
    Program {
        name: "sqlite",
        needs: &["sqlite3"],
        size: "1G",
        script: r#"
            sqlite3 db 'PRAGMA journal_mode=WAL; CREATE TABLE t(n INTEGER PRIMARY KEY, b BLOB)' > /dev/null
            before=0
            for round in $(seq 20); do
                (
                    echo 'PRAGMA mmap_size=268435456; PRAGMA synchronous=FULL;'
                    while :; do echo 'INSERT INTO t(b) VALUES(randomblob(3000)); SELECT max(n) FROM t;'; done
                ) 2> /dev/null | sqlite3 db > "$W/said" 2> "$W/wrong" &
                sleep "0.$((round % 5 + 1))"
                pkill -9 -P $$ -x sqlite3
                wait || :
                test ! -s "$W/wrong"
                # Whole lines only: the last may be half.
                said=$(grep -c . "$W/said")
                told=$(sed '$d' "$W/said" | tail -n 1)
                found=$(sqlite3 db 'PRAGMA mmap_size=268435456; SELECT count(*) FROM t' | tail -n 1)
                test "$(sqlite3 db 'PRAGMA integrity_check')" = ok
                test "$found" -ge "${told:-0}"
                test "$found" -ge "$before"
                before=$found
            done
            echo "WAL and mmap, killed 20 times, $before rows, none of those that were committed is missing"
        "#,
    },
    Program {
        name: "fio",
        needs: &["fio"],
        size: "1G",
        script: r#"
            runs=0
            for engine in psync mmap; do
                for pattern in write randwrite randrw; do
                    rm -f data
                    fio --name=verify --filename=data --ioengine=$engine --rw=$pattern --size=96M --bsrange=4k-128k \
                        --bs_unaligned=0 --verify=crc32c --verify_fatal=1 --do_verify=1 --fsync=64 --minimal \
                        > "$W/fio" || { cat "$W/fio"; exit 1; }
                    runs=$((runs + 1))
                done
            done
            # Direct, and both at once on the same bytes.
            rm -f data
            fio --name=direct --filename=data --ioengine=psync --direct=1 --rw=randwrite --size=64M --bs=4k \
                --verify=crc32c --verify_fatal=1 --do_verify=1 --minimal > "$W/fio" || { cat "$W/fio"; exit 1; }
            echo "$((runs + 1)) runs of write, randwrite and randrw by psync, mmap and O_DIRECT, all verified"
        "#,
    },
    Program {
        name: "rsync",
        needs: &["rsync", "setfattr", "setfacl"],
        size: "2G",
        script: r#"
            mkdir "$W/from"
            (
                cd "$W/from"
                mkdir -p a/b/c "with space" many
                seq 100000 > a/numbers; ln a/numbers a/b/linked; ln -s ../numbers a/b/symbolic; ln -s nowhere dangling
                mkfifo fifo; : > empty; truncate -s 100M sparse; printf end >> sparse
                dd if=/dev/urandom of=random bs=1M count=20 status=none
                for i in $(seq 2000); do echo "$i" > "many/$i"; done
                chmod 4755 a/numbers; chmod 0 empty; chmod 1777 many
                touch -d '1931-05-01 12:00:00.123456789' empty; touch -d '2106-02-07 06:28:17.5' random
                setfattr -n user.note -v 'a value' random; setfattr -n user.long -v "$(head -c 3000 /dev/zero | tr '\0' x)" a
                setfacl -m u:1:rwx,g:2:r a/b; setfacl -d -m u:3:rw a
                if [ "$(id -u)" = 0 ]; then
                    chown 1234:5678 random; chown -h 7:8 dangling; mknod device c 1 3
                    setfattr -n trusted.t -v t many/1
                fi
            )
            cp -a "$S/docs" "$S/format" "$W/from/"
            rsync -aHAX --numeric-ids "$W/from/" "$M/there/"
            rsync -aHAX --numeric-ids "$M/there/" "$W/back/"
            for pair in "from there" "there back"; do
                set -- $pair
                test "$1" = from && left="$W/from" || left="$M/there"
                test "$2" = back && right="$W/back" || right="$M/there"
                rsync -aHAXnic --numeric-ids --delete "$left/" "$right/" > "$W/different"
                test ! -s "$W/different" || { cat "$W/different"; exit 1; }
            done
            echo "$(find "$M/there" | wc -l) files of all kinds, there and back, no difference by checksum, -HAX"
        "#,
    },
    Program {
        name: "stress-ng",
        needs: &["stress-ng"],
        size: "3G",
        script: r#"
            count=0 skipped=
            for stressor in access chdir chmod chown copy-file dentry dir dirdeep dirmany dup eventfd fallocate fault fcntl \
                file-ioctl filename flock fpunch fsize fstat getdent hdd inode-flags iomix lease link locka lockf lockmix \
                lockofd metamix mmap mmapfixed msync open readahead rename revio seal seek sendfile splice symlink \
                sync-file touch unlink utime verity vm-splice xattr; do
                stress-ng --help 2> /dev/null | grep -q -- "--$stressor N" || { skipped="$skipped $stressor"; continue; }
                # 0: done; 3 and 4: not here, or not on this file system.
                code=0
                stress-ng --temp-path "$M" --timeout "${SECONDS_EACH}s" --verify --oomable "--$stressor" 2 \
                    > "$W/stress" 2>&1 || code=$?
                case $code in
                    0) count=$((count + 1));;
                    3|4) skipped="$skipped $stressor";;
                    *) cat "$W/stress"; echo "$stressor: exit status $code"; exit 1;;
                esac
            done
            echo "$count stressors of file systems, ${SECONDS_EACH} s each, with --verify; not here:${skipped:- none}"
        "#,
    },
    Program {
        name: "fsx",
        needs: &["fsx"],
        size: "256M",
        script: r#"
            cat > "$W/fsx.toml" <<-EOF
			flen = 1048576
			[opsize]
			min = 1
			max = 65536
			[weights]
			close_open = 1
			invalidate = 1
			mapread = 5
			mapwrite = 5
			read = 10
			write = 10
			truncate = 5
			fsync = 0.2
			fdatasync = 0.2
			posix_fallocate = 2
			punch_hole = 3
			sendfile = 2
			posix_fadvise = 0.5
			copy_file_range = 5
			EOF
            # It never unmaps what it reads through a mapping: after some ten thousand the kernel spends its time on them.
            done=0
            while [ "$done" -lt "$OPERATIONS" ]; do
                step=$((OPERATIONS - done)); test "$step" -lt 20000 || step=20000
                rm -f data
                fsx -q -f "$W/fsx.toml" -N "$step" -S "$((done + 1))" -P "$W" data > "$W/fsx" 2>&1 || { cat "$W/fsx"; exit 1; }
                done=$((done + step))
            done
            echo "$OPERATIONS operations: read, write, mmap, truncate, fallocate, punch, copy_file_range, sendfile"
        "#,
    },
    Program {
        name: "pjdfstest",
        needs: &["pjdfstest"],
        size: "1G",
        script: r#"
            test "$(id -u)" = 0 || { echo 'needs root'; exit 0; }
            cat > "$W/pjdfstest.toml" <<-EOF
			[features]
			posix_fallocate = {}
			rename_ctime = {}
			utimensat = {}
			utime_now = {}
			[settings]
			naptime = 0.01
			allow_remount = false
			# A directory has one link, as on btrfs: how many are in it is not counted.
			expected_failures = ["rename::updates_link_parent"]
			[dummy_auth]
			entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
			EOF
            # Its longest path must not end where a component does, or it stumbles over itself.
            mkdir space; chmod 777 . space
            length=$(printf %s "$M/space" | wc -c)
            test $(((4095 - length) % 127)) != 0 || { mv space space-; }
            chmod 755 "$(dirname "$M")"
            pjdfstest -c "$W/pjdfstest.toml" -p "$M"/space* > "$W/said" 2>&1 || { grep -A4 FAILED "$W/said"; exit 1; }
            echo "$(grep -c 'ok$' "$W/said") cases of POSIX"
        "#,
    },
    Program {
        name: "acl",
        needs: &["setfacl", "getfacl"],
        size: "64M",
        script: r#"
            test "$(id -u)" = 0 || { echo 'needs root'; exit 0; }
            chmod 755 "$(dirname "$M")"
            umask 077
            mkdir shared; setfacl -m u:1:rx -d -m u:1:rwx,g::rx,o::- shared
            echo text > shared/file; mkdir shared/below
            test "$(stat -c %a shared/file)" = 660
            getfacl -cp shared/below | grep -q '^default:user:daemon:rwx'
            as() { id=$1; shift; setpriv --reuid "$id" --clear-groups --regid "$id" "$@"; }
            as 1 cat shared/file > /dev/null
            ! as 2 cat shared/file 2> /dev/null
            chmod 600 shared/file
            ! as 1 cat shared/file 2> /dev/null
            setfacl -b shared/file; test "$(stat -c %A shared/file)" = -rw-------
            # Who writes to a program takes its privileges away.
            cp "$(command -v cat)" shared/program; chmod 6777 shared/program; chmod 777 shared; setfacl -b shared
            as 1 sh -c 'echo >> shared/program'
            test "$(stat -c %a shared/program)" = 777
            echo "inherited, obeyed, masked by chmod; set-user-ID lost by a write"
        "#,
    },
];
