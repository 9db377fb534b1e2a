set -euo pipefail
source ./verify.bash

# The body stays escaped: a variable cannot hold its NULs.
sed -E 's/([0-9a-f]{2})/\\x\1/g' | while IFS=: read -r scheme now secret id timestamp signature body; do
    for field in scheme now secret id timestamp signature; do printf -v "$field" %b "${!field}"; done
    if [[ $scheme == body ]]; then
        check=(verify_body "$secret" "$signature")
    else
        check=(verify "$secret" "$id" "$timestamp" "$signature" ${now:+"$now"})
    fi
    if "${check[@]}" < <(printf %b "$body"); then echo ok; else echo refused; fi
done
