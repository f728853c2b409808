// A media server made of Pion, gorilla/websocket and libopus: the Go baseline of "python -m benchmarks sessions".
// benchmarks/sessions_pion.py builds it, and says what it does and does not do of the bridge's work.
//
// Run as "server mic", "server both" or "server passed SERVICE_URL". The first line that it prints is its port.
//
//	mic     what a caller says becomes append events of PCM16, 24 kHz mono, on the WebSocket that has brought the offer
//	both    and the deltas that come on that WebSocket are played to the caller, paced, as Opus
//	passed  an offer comes by HTTP; the service is called, and Opus packets pass between caller and service both ways
package main

/*
#cgo pkg-config: opus
#include <opus.h>

// A variadic function cannot be called from Go.
static OpusEncoder *new_encoder(int hz, int bitrate, int complexity) {
	OpusEncoder *encoder = opus_encoder_create(hz, 1, OPUS_APPLICATION_AUDIO, NULL);
	opus_encoder_ctl(encoder, OPUS_SET_SIGNAL(OPUS_SIGNAL_MUSIC)); // CELT: what the bridge chooses if nothing is lost
	opus_encoder_ctl(encoder, OPUS_SET_BITRATE(bitrate));
	opus_encoder_ctl(encoder, OPUS_SET_COMPLEXITY(complexity));
	return encoder;
}
*/
import "C"

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/gorilla/websocket"
	"github.com/pion/ice/v2"
	"github.com/pion/interceptor"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v3"
)

const (
	rateHz       = 24000
	frameMs      = 20
	frameSamples = rateHz * frameMs / 1000
	frameBytes   = 2 * frameSamples
	frameTicks   = 48000 * frameMs / 1000 // Opus in RTP always counts at 48 kHz
	maxSamples   = rateHz * 120 / 1000    // of one packet (RFC 6716 section 2.1.4)
	maxPacket    = 1275
	maxDatagram  = 1500
	maxAnswer    = 60 * 2 * rateHz // bytes of an answer that wait to be played; what is more is dropped
	bitrate      = 64000           // these two are what the bridge's encoder has while nothing is lost
	complexity   = 4
	waitLimit    = 20 * time.Second
	channelLabel = "oai-events"
)

var (
	opus     = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}
	upgrader = websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	eventIDs uint64
	callIDs  uint64
)

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: server mic|both|passed SERVICE_URL")
	}
	api, err := newAPI()
	if err != nil {
		log.Fatal(err)
	}
	switch mode := os.Args[1]; {
	case mode == "mic" || mode == "both":
		http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
			socket, err := upgrader.Upgrade(response, request, nil)
			if err != nil {
				return // the client was told
			}
			defer socket.Close()
			if err := serveSocket(api, socket, mode == "both"); err != nil {
				log.Print(err)
			}
		})
	case mode == "passed" && len(os.Args) == 3:
		http.HandleFunc("/v1/realtime/calls", func(response http.ResponseWriter, request *http.Request) {
			offer, err := io.ReadAll(request.Body)
			if err != nil {
				return
			}
			answer, err := passOn(api, string(offer), os.Args[2])
			if err != nil {
				http.Error(response, err.Error(), http.StatusBadGateway)
				return
			}
			response.Header().Set("Location", fmt.Sprintf("/v1/realtime/calls/%d", atomic.AddUint64(&callIDs, 1)))
			response.WriteHeader(http.StatusCreated)
			io.WriteString(response, answer)
		})
	default:
		log.Fatalf("no such mode: %q", os.Args[1:])
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	log.Fatal(http.Serve(listener, nil))
}

// newAPI makes what all peers are made with: loopback alone, Opus, sender and receiver reports.
func newAPI() (*webrtc.API, error) {
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetInterfaceFilter(func(name string) bool { return name == "lo" })
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	media, interceptors := &webrtc.MediaEngine{}, &interceptor.Registry{}
	if err := media.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	if err := webrtc.ConfigureRTCPReports(interceptors); err != nil {
		return nil, err
	}
	return webrtc.NewAPI(
		webrtc.WithSettingEngine(settings), webrtc.WithMediaEngine(media), webrtc.WithInterceptorRegistry(interceptors),
	), nil
}

// serveSocket carries one call of a WebSocket, from the offer that comes first to the end of the socket.
func serveSocket(api *webrtc.API, socket *websocket.Conn, isAnswered bool) error {
	var offer struct{ SDP string }
	if err := socket.ReadJSON(&offer); err != nil {
		return err
	}
	peer, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return err
	}
	defer peer.Close()
	answered := newPlayer()
	defer answered.stop()
	if isAnswered {
		track, err := addTrack(peer)
		if err != nil {
			return err
		}
		go answered.play(track)
	}
	peer.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { hear(track, socket) })
	answer, err := accept(peer, offer.SDP)
	if err != nil {
		return err
	}
	// A caller can only speak after this; from then on ``hear`` is the one that writes.
	if err := socket.WriteJSON(map[string]string{"type": "answer", "sdp": answer}); err != nil {
		return err
	}
	for {
		_, text, err := socket.ReadMessage()
		if err != nil {
			return nil // it hung up
		}
		var event struct {
			Type  string
			Delta []byte // encoding/json decodes base64
		}
		if err := json.Unmarshal(text, &event); err != nil {
			return err
		}
		if event.Type == "response.output_audio.delta" {
			answered.add(event.Delta)
		}
	}
}

// hear decodes a caller's packets and writes an append event for each, until the track or the socket ends.
func hear(track *webrtc.TrackRemote, socket *websocket.Conn) {
	decoder := C.opus_decoder_create(rateHz, 1, nil)
	defer C.opus_decoder_destroy(decoder)
	pcm := make([]int16, maxSamples)
	datagram, event := make([]byte, maxDatagram), []byte(nil)
	var packet rtp.Packet
	for {
		size, _, err := track.Read(datagram)
		if err != nil {
			return
		}
		if packet.Unmarshal(datagram[:size]) != nil || len(packet.Payload) == 0 {
			continue
		}
		samples := C.opus_decode(
			decoder, (*C.uchar)(&packet.Payload[0]), C.opus_int32(len(packet.Payload)),
			(*C.opus_int16)(&pcm[0]), maxSamples, 0,
		)
		if samples <= 0 {
			continue
		}
		sound := unsafe.Slice((*byte)(unsafe.Pointer(&pcm[0])), 2*int(samples)) // this machine is little-endian
		event = append(event[:0], `{"type":"input_audio_buffer.append","event_id":"event_`...)
		event = strconv.AppendUint(event, atomic.AddUint64(&eventIDs, 1), 10)
		event = append(event, `","audio":"`...)
		start, length := len(event), base64.StdEncoding.EncodedLen(len(sound))
		event = append(event, make([]byte, length)...) // the compiler extends it, and makes nothing
		base64.StdEncoding.Encode(event[start:], sound)
		event = append(event, `"}`...)
		if socket.WriteMessage(websocket.TextMessage, event) != nil {
			return
		}
	}
}

// player plays an answer to a caller: 20 ms every 20 ms, as long as there is something.
type player struct {
	lock    sync.Mutex
	waiting []byte
	stopped chan struct{}
}

func newPlayer() *player { return &player{stopped: make(chan struct{})} }

func (p *player) stop() { close(p.stopped) }

// add lets PCM16 wait for its time.
func (p *player) add(pcm []byte) {
	p.lock.Lock()
	defer p.lock.Unlock()
	if len(p.waiting)+len(pcm) <= maxAnswer {
		p.waiting = append(p.waiting, pcm...)
	}
}

// take moves the next frame into “frame“, or says that there is none.
func (p *player) take(frame []byte) bool {
	p.lock.Lock()
	defer p.lock.Unlock()
	if len(p.waiting) < len(frame) {
		return false
	}
	copy(frame, p.waiting)
	p.waiting = p.waiting[:copy(p.waiting, p.waiting[len(frame):])]
	return true
}

// play runs until the player is stopped.
func (p *player) play(track *webrtc.TrackLocalStaticRTP) {
	encoder := C.new_encoder(rateHz, bitrate, complexity)
	defer C.opus_encoder_destroy(encoder)
	frame, payload := make([]byte, frameBytes), make([]byte, maxPacket)
	packet := rtp.Packet{Header: rtp.Header{Version: 2}}
	ticker := time.NewTicker(frameMs * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-p.stopped:
			return
		case <-ticker.C:
		}
		packet.Timestamp += frameTicks // silence takes time too
		if !p.take(frame) {
			continue
		}
		size := C.opus_encode(
			encoder, (*C.opus_int16)(unsafe.Pointer(&frame[0])), frameSamples, (*C.uchar)(&payload[0]), maxPacket,
		)
		if size <= 0 {
			continue
		}
		packet.SequenceNumber++
		packet.Payload = payload[:size]
		track.WriteRTP(&packet) // it fails until the caller is connected
	}
}

// passOn calls the service for a caller, connects both, and returns the answer to the caller's offer.
func passOn(api *webrtc.API, offer string, serviceURL string) (string, error) {
	caller, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return "", err
	}
	service, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		caller.Close()
		return "", err
	}
	hangUp := func(state webrtc.PeerConnectionState) {
		if state == webrtc.PeerConnectionStateFailed || state == webrtc.PeerConnectionStateClosed {
			go caller.Close()
			go service.Close()
		}
	}
	caller.OnConnectionStateChange(hangUp)
	service.OnConnectionStateChange(hangUp)
	toCaller, err := addTrack(caller)
	if err != nil {
		return "", err
	}
	toService, err := addTrack(service)
	if err != nil {
		return "", err
	}
	caller.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { forward(track, toService) })
	service.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { forward(track, toCaller) })
	if err := dial(service, serviceURL); err != nil {
		return "", err
	}
	return accept(caller, offer)
}

// forward sends each packet of one track on another, under the latter's SSRC.
func forward(from *webrtc.TrackRemote, to *webrtc.TrackLocalStaticRTP) {
	datagram := make([]byte, maxDatagram)
	for {
		size, _, err := from.Read(datagram)
		if err != nil {
			return
		}
		to.Write(datagram[:size]) // it fails until the other side is connected
	}
}

// addTrack gives a peer a track of Opus to send on, and reads what RTCP comes for it.
func addTrack(peer *webrtc.PeerConnection) (*webrtc.TrackLocalStaticRTP, error) {
	track, err := webrtc.NewTrackLocalStaticRTP(opus, "audio", "benchmark")
	if err != nil {
		return nil, err
	}
	sender, err := peer.AddTrack(track)
	if err != nil {
		return nil, err
	}
	go func() {
		report := make([]byte, maxDatagram)
		for {
			if _, _, err := sender.Read(report); err != nil {
				return
			}
		}
	}()
	return track, nil
}

// accept answers an offer, with all candidates.
func accept(peer *webrtc.PeerConnection, offer string) (string, error) {
	description := webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}
	if err := peer.SetRemoteDescription(description); err != nil {
		return "", err
	}
	answer, err := peer.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	return settle(peer, answer)
}

// dial calls a service: an offer goes by HTTP, and an answer comes back.
func dial(peer *webrtc.PeerConnection, url string) error {
	if _, err := peer.CreateDataChannel(channelLabel, nil); err != nil {
		return err
	}
	offer, err := peer.CreateOffer(nil)
	if err != nil {
		return err
	}
	text, err := settle(peer, offer)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: waitLimit}
	response, err := client.Post(url, "application/sdp", bytes.NewReader([]byte(text)))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusCreated {
		return fmt.Errorf("the service answered %s: %s", response.Status, answer)
	}
	return peer.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: string(answer)})
}

// settle takes a description of ours, and returns it when it has all candidates.
func settle(peer *webrtc.PeerConnection, description webrtc.SessionDescription) (string, error) {
	gathered := webrtc.GatheringCompletePromise(peer)
	if err := peer.SetLocalDescription(description); err != nil {
		return "", err
	}
	select {
	case <-gathered:
		return peer.LocalDescription().SDP, nil
	case <-time.After(waitLimit):
		return "", errors.New("no candidates within 20 s")
	}
}
