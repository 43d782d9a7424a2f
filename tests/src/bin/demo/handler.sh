#!/bin/sh
# Bob's handler: started once for each event of an agent session. It works for some seconds, shows
# what it does, and its last line is the answer.
event=$(cat)
say() { printf '%s\n' "$1" >&"$EDGERELAY_PROGRESS_FD"; }

case $event in
*'"signal":"stop"'*) echo "Stopped."; exit 0 ;;
esac
trap 'say "{\"type\":\"response\",\"body\":\"Stopped halfway; nothing was changed.\"}"; exit 0' TERM

sleep 0.6
case $EDGERELAY_KIND in
*.prompted)
    say '{"type":"action","action":"Read","parameter":"docs/restart.md"}'
    sleep 0.6
    echo "Yes: it resumes by its cursor now."
    exit 0
    ;;
esac

say '{"type":"thought","body":"Reading the issue."}'
say '{"type":"plan","steps":[{"content":"Find the cause","status":"inProgress"},{"content":"Mend it","status":"pending"}]}'
case $event in
# Not one long sleep: a signal that comes just before it begins would be heard after it.
*"Rewrite everything"*) for _ in $(seq 3000); do sleep 0.2; done ;;
esac
sleep 1.2
say '{"type":"action","action":"Ran","parameter":"cargo test","result":"1 failed"}'
say '{"type":"urls","urls":[{"label":"Branch","url":"https://git.example/fix-restart"}]}'
sleep 1
say '{"type":"plan","steps":[{"content":"Find the cause","status":"completed"},{"content":"Mend it","status":"completed"}]}'
echo "Mended: the cursor was stored too late."
