#!/bin/sh
# Starts workerd so that it can't outlive the Node.js process that started it, not even one that is
# killed with SIGKILL: Linux then kills it, too. Elsewhere the end of stdin has to do (serve.mjs).
if setpriv --pdeathsig KILL true 2>/dev/null; then
	exec setpriv --pdeathsig KILL "$EDGERELAY_WORKERD" "$@"
fi
exec "$EDGERELAY_WORKERD" "$@"
