#!/bin/sh
# Places of this image, for scripts that source zkEnv.sh: `. zkEnv.sh`. What is set already is kept.
ZOOBINDIR="${ZOOBINDIR:-/opt/zookeeper/bin}"
ZOOKEEPER_PREFIX="${ZOOKEEPER_PREFIX:-/opt/zookeeper}"
ZOOCFGDIR="${ZOOCFGDIR:-/opt/zookeeper/conf}"
ZOOCFG="${ZOOCFG:-zoo.cfg}"
case "$ZOOCFG" in
/*) ;;
*) ZOOCFG="$ZOOCFGDIR/$ZOOCFG" ;;
esac
# java.env is written by start-zookeeper; it sets ZOO_LOG_DIR and JVMFLAGS.
if [ -f "$ZOOCFGDIR/java.env" ]; then
    . "$ZOOCFGDIR/java.env"
fi
ZOO_LOG_DIR="${ZOO_LOG_DIR:-/var/log/zookeeper}"
export ZOOBINDIR ZOOKEEPER_PREFIX ZOOCFGDIR ZOOCFG ZOO_LOG_DIR JVMFLAGS
