// A Centrifuge server: `centrifuge PORT INGEST`. Anybody may connect and subscribe; lines "CHANNEL PAYLOAD" on INGEST
// are published, each payload as a JSON text.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/centrifugal/centrifuge"
)

func main() {
	config := centrifuge.DefaultConfig
	node, err := centrifuge.New(config)
	if err != nil {
		log.Fatal(err)
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: "observer"}}, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, answer centrifuge.SubscribeCallback) {
			answer(centrifuge.SubscribeReply{}, nil)
		})
	})
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	lines, err := net.Listen("tcp", "127.0.0.1:"+os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			connection, err := lines.Accept()
			if err != nil {
				log.Fatal(err)
			}
			go publish(node, connection)
		}
	}()
	observers, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{}))
	fmt.Println("ready")
	log.Fatal(http.Serve(observers, nil))
}

func publish(node *centrifuge.Node, connection net.Conn) {
	scanner := bufio.NewScanner(connection)
	for scanner.Scan() {
		channel, payload, _ := bytes.Cut(scanner.Bytes(), []byte(" "))
		data, _ := json.Marshal(string(payload))
		if _, err := node.Publish(string(channel), data); err != nil {
			log.Fatal(err)
		}
	}
}
