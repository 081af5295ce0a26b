#!/bin/sh
# Lays what the table `contents` says about an image under a root directory; needs to be root.
# usage: apply.sh tutorial|production BINARY ROOT
set -eu
umask 022
image=$1 binary=$2 root=${3%/}
here=$(dirname "$0")
mkdir -p "$root/"
while read -r images kind owner mode path content; do
    case $images in both | "$image") ;; *) continue ;; esac
    case $kind in
    dir) mkdir -p "$root$path" ;;
    file) rm -f "$root$path" && cp "$here/$content" "$root$path" ;;
    binary) cp "$binary" "$root$path" ;;
    link) ln -sfn "$content" "$root$path" ;;
    *) continue ;;
    esac
    chown -h "$owner" "$root$path"
    # After chown, which clears special bits.
    if [ "$kind" != link ]; then
        chmod "$mode" "$root$path"
    fi
done <"$here/contents"
