// Pass one connection on to another address. Since Go 1.24 the default listener speaks MPTCP: the program
// has no word about it. Usage: go run relay.go BACKEND LISTEN...
package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

func pass(to, from *net.TCPConn, done chan<- error) {
	_, err := io.Copy(to, from)
	to.CloseWrite()
	done <- err
}

func main() {
	accepted := make(chan net.Conn)
	for _, address := range os.Args[2:] {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go func() {
			if connection, err := listener.Accept(); err == nil {
				accepted <- connection
			}
		}()
	}
	front := (<-accepted).(*net.TCPConn)
	backend, err := net.Dial("tcp", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	back, done := backend.(*net.TCPConn), make(chan error)
	go pass(back, front, done)
	go pass(front, back, done)
	for range 2 {
		if err := <-done; err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	mptcp, _ := front.MultipathTCP()
	fmt.Println("MPTCP", mptcp)
}
