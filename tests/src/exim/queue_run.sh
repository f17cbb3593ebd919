# Queues mails and sends them in one queue run. Arguments: directory, number of mails.
set -eu
cp "$1/exim4.conf" /etc/exim4/exim4.conf
chown root:root /etc/exim4/exim4.conf
chown Debian-exim "$1"
number=0
while [ "$number" -lt "$2" ]; do
    exim4 -odqs -f a@mta-a.test b@sink.test < "$1/mail"
    number=$((number + 1))
done
# Two stages: the first finds out which mails go to the same host.
exec exim4 -d-all+transport+pid -qq
