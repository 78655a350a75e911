"""What a program in Python does with etcd: run with a port, a CA, and certificate and key of alice and of a guest."""

import sys

import etcd3
from etcd3.etcdrpc import rpc_pb2 as rpc

PORT, CA, CERT, KEY, GUEST_CERT, GUEST_KEY = sys.argv[1:]


def connect(cert=GUEST_CERT, key=GUEST_KEY, **more):
    shown = {"ca_cert": CA, "cert_cert": cert, "cert_key": key}
    return etcd3.client(host="127.0.0.1", port=int(PORT), timeout=20, **shown, **more)


def refused(call, text):
    try:
        call()
    except Exception as error:  # It wraps some errors of gRPC and not others.
        assert text in str(error) + str(error.__cause__ or error.__context__), error
    else:
        raise AssertionError(f"was not refused: {text}")


def add_users(client):
    def auth(method, request):
        getattr(client.authstub, method)(request, 20, credentials=client.call_credentials)

    client.authstub = etcd3.etcdrpc.AuthStub(client.channel)
    auth("UserAdd", rpc.AuthUserAddRequest(name="root", password="rootpw"))
    auth("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="root", role="root"))
    auth("UserAdd", rpc.AuthUserAddRequest(name="alice", password="alicepw"))
    auth("AuthEnable", rpc.AuthEnableRequest())


def use_keys(client):
    client.put("k", "one")
    value, meta = client.get("k")
    assert value == b"one" and meta.version == 1, meta
    assert not client.put_if_not_exists("k", "two")
    assert client.replace("k", "one", "two")
    assert [value for value, _ in client.get_prefix("k")] == [b"two"]
    done, _ = client.transaction(
        compare=[client.transactions.value("k") == "two"],
        success=[client.transactions.put("k", "three")],
        failure=[client.transactions.get("k")],
    )
    assert done
    lease = client.lease(600)
    client.put("leased", "v", lease=lease)
    assert list(client.refresh_lease(lease.id))[0].TTL == 600
    assert client.get_lease_info(lease.id).grantedTTL == 600
    events, cancel = client.watch_prefix("leased")
    client.revoke_lease(lease.id)
    event = next(events)
    assert isinstance(event, etcd3.events.DeleteEvent) and event.key == b"leased", event
    cancel()
    assert client.get("leased") == (None, None)
    with client.lock("mutex", ttl=60) as lock:
        assert lock.is_acquired()
    assert client.delete("k")


def use_cluster(client):
    assert client.status().version == "3.7.0"
    assert [member.name for member in client.members] == ["m0"]
    alarm = client.create_alarm()
    assert len(alarm) == 1 and len(list(client.list_alarms())) == 1
    assert len(client.disarm_alarm()) == 1
    client.compact(2)
    client.defragment()


def main():
    add_users(connect())
    nobody = connect()
    refused(lambda: nobody.put("k", "v"), "user name is empty")
    refused(lambda: connect(user="root", password="wrong"), "invalid user ID or password")
    root = connect(user="root", password="rootpw")
    use_keys(root)
    use_cluster(root)
    alice = connect(cert=CERT, key=KEY)
    refused(lambda: alice.put("k", "v"), "permission denied")
    for client in (nobody, root, alice):
        client.close()
    print("all done")


main()
