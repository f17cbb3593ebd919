# Unpacks what was fetched (follows download_package.sh)
mkdir files
for file in *.deb; do
    dpkg -x "$file" files
    rm "$file"
done
mv files unpacked
