#!/bin/sh
# Streams a running Telnyx call to the bridge, both ways: telnyx.sh CALL_CONTROL_ID
# Needs TELNYX_API_KEY and BRIDGE_TELNYX_SECRET in the environment.
set -eu
curl -sS --fail "https://api.telnyx.com/v2/calls/$1/actions/streaming_start" \
  -H "Authorization: Bearer $TELNYX_API_KEY" \
  -H "Content-Type: application/json" \
  -d @- <<BODY
{
  "stream_url": "wss://bridge.example.com/v1/telephony/telnyx",
  "stream_track": "inbound_track",
  "stream_codec": "PCMU",
  "stream_bidirectional_mode": "rtp",
  "stream_bidirectional_codec": "PCMU",
  "stream_auth_token": "$BRIDGE_TELNYX_SECRET",
  "custom_parameters": [{"name": "language", "value": "en"}]
}
BODY
